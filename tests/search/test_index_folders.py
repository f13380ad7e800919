"""Which folders are taken for an index, and whose: nothing of anyone else's is lost."""

import shutil

import pytest
from small_index import clip, held, opened, paths, same, update, write_checkpoint

from tvr.models.gare import VideoFeatures
from tvr.search.shards import contents_of, write_shard
from tvr.search.store import Store
from tvr.utils.errors import UserError


def test_a_folder_that_became_empty_leaves_the_index_as_it_was(videos, index, model):
    update(videos, index, model)
    before = paths(index)
    shutil.rmtree(videos)
    videos.mkdir()
    with pytest.raises(UserError, match="holds no video file"):
        update(videos, index, model)
    assert paths(index) == before


def test_another_model_and_another_folder_are_refused(videos, index, model, tmp_path):
    update(videos, index, model)
    other = opened(write_checkpoint(tmp_path / "other.pt", seed=1))
    with pytest.raises(UserError, match=f"{other.fingerprint}.*{model.fingerprint}"):
        update(videos, index, other)
    warmer = opened(model.name, temp=4.0)
    with pytest.raises(UserError, match=f"{warmer.fingerprint}.*{model.fingerprint}"):
        update(videos, index, warmer)
    (index / "manifest.json").unlink()
    with pytest.raises(UserError, match=f"{other.fingerprint}.*{model.fingerprint}"):
        update(videos, index, other)
    update(videos, index, model)
    shutil.copytree(videos, tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is the index of"):
        update(tmp_path / "elsewhere", index, model)
    shutil.rmtree(videos)
    assert update(tmp_path / "elsewhere", index, model).gallery == 7


def test_a_folder_of_something_else_is_no_place_for_an_index(videos, model):
    before = sorted(videos.rglob("*"))
    with pytest.raises(UserError, match="not empty, and no index"):
        update(videos, videos, model)
    assert sorted(videos.rglob("*")) == before


FOREIGN = {
    "manifest.json": '{"name": "web page", "version": 1}',
    "shard-000000.tar": "mine",
    "shard-000001.safetensors": "mine",
    "vectors-000001.faiss": "mine",
    "vectors-mine.npy": "mine",
    "vectors-abc.faiss": "mine",
    "unreadable.csv": "mine",
    "lock": "mine",
    "tvr-search.lock": "mine",
}


def test_a_folder_with_such_names_is_left_alone(videos, index, model):
    index.mkdir()
    for name, content in FOREIGN.items():
        (index / name).write_text(content)
    with pytest.raises(UserError, match="not empty, and no index"):
        update(videos, index, model)
    assert {path.name: path.read_text() for path in index.iterdir()} == FOREIGN


def test_files_of_others_in_an_index_stay(videos, index, model):
    update(videos, index, model)
    theirs = ("shard-000000.tar", "vectors-mine.npy", "vectors-abc.faiss", ".shard-x.part", "lock")
    for name in theirs:
        (index / name).write_text("mine")
    (videos / "0.mp4").unlink()
    assert update(videos, index, model).gallery == 6
    assert [(index / name).read_text() for name in theirs] == ["mine"] * len(theirs)


def test_an_empty_lock_of_a_process_that_was_killed_is_no_obstacle(videos, index, model):
    index.mkdir()
    (index / "tvr-search.lock").touch()
    assert update(videos, index, model).gallery == 7


@pytest.mark.parametrize("manifest", ["whole", "damaged", "missing", "version 3", "unreadable"])
def test_other_videos_do_not_take_an_index_over(videos, index, model, tmp_path, manifest):
    """Not even where the folder of before is not there, perhaps not mounted."""
    update(videos, index, model)
    path = index / "manifest.json"
    if manifest in ("missing", "unreadable"):
        path.rename(tmp_path / "manifest.json")
    if manifest == "unreadable":
        path.mkdir()
    elif manifest == "damaged":
        path.write_text(path.read_text()[:-9])
    elif manifest == "version 3":
        path.write_text(path.read_text().replace('"version": 2', '"version": 3'))
    videos.rename(tmp_path / "away")
    clip(tmp_path / "others" / "0.mp4", seconds=9)
    before = {file: file.read_bytes() for file in index.glob("[sv]*-*")}
    message = {"version 3": "index version 3", "unreadable": "cannot be read"}
    with pytest.raises(UserError, match=message.get(manifest, "is the index of")):
        update(tmp_path / "others", index, model)
    assert {file: file.read_bytes() for file in index.glob("[sv]*-*")} == before
    if manifest in ("whole", "damaged", "missing"):
        assert update(tmp_path / "away", index, model).encoded == 0


def test_a_damaged_index_is_repaired(videos, index, model, tmp_path):
    update(videos, index, model)
    shutil.copytree(index, tmp_path / "whole")
    for kind in ("shard-*", "vectors-*", "manifest.json"):
        path = min(index.glob(kind))
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(UserError, match=r"[Rr]un the index command again"):
            Store.open(index)
        update(videos, index, model)
        assert same(index, tmp_path / "whole", tolerance=1e-5)


def test_a_shard_of_another_shape_is_not_taken_over(videos, index, model):
    update(videos, index, model)
    store = Store.open(index)
    one = store.features([0])
    longer = VideoFeatures(one.frames_BFD.repeat(1, 2, 1), one.mask_BF.repeat(1, 2))
    contents = contents_of([store.videos[0]], longer, [b""], model.gare.settings.padding)
    path = index / "shard-000099.safetensors"
    write_shard(path, model.fingerprint, contents)
    before = held(index)
    with pytest.raises(UserError, match=r"shard-000099.*\(6, 128\).*Move it out of the folder"):
        update(videos, index, model)
    path.unlink()
    assert held(index).keys() == before.keys()
    assert update(videos, index, model).encoded == 0
