import pytest

from tvr.dataloaders.videos import EXTENSIONS, find_videos, stem
from tvr.utils.errors import UserError


@pytest.mark.parametrize(
    ("file_name", "video_id"),
    [
        *[(f"clip{extension}", "clip") for extension in EXTENSIONS],
        ("clip.MP4", "clip"),
        ("clip", "clip"),
        ("clip.", "clip"),
        ("clip.mp4", "clip.avi"),
        ("v_clip.mp4", "clip"),
        ("clip.mkv", "v_clip"),
        # an id that itself begins with v_
        ("v_jDPR33L4q.mp4", "v_v_jDPR33L4q"),
        ("v_v_jDPR33L4q.mp4", "v_jDPR33L4q"),
        ("v_jDPR33L4q.mp4", "v_jDPR33L4q"),
        ("0017_Pianist_00.23.28.872-00.23.34.843.avi", "0017_Pianist_00.23.28.872-00.23.34.843"),
        ("0017_Pianist_00.23.28.872-00.23.34.843", "0017_Pianist_00.23.28.872-00.23.34.843.avi"),
        ("4@N04_4_dd..mp4", "4@N04_4_dd."),
        ("4@N04_4_dd.mov", "4@N04_4_dd."),
        ("59627558@N00_4659075184_253744838b.3gp", "59627558@N00_4659075184_253744838b.3gp"),
    ],
)
def test_tolerant_names(tmp_path, file_name, video_id):
    (tmp_path / "movie").mkdir()
    path = tmp_path / "movie" / file_name
    path.touch()
    index = find_videos(tmp_path)
    assert index.get(video_id) == path
    assert index.get("other") is None


def test_mp4_wins_then_the_order_of_paths(tmp_path):
    for name in ("b/x.mp4", "a/x.avi", "b/y.webm", "a/y.mkv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    index = find_videos(tmp_path)
    assert index.get("x") == tmp_path / "b/x.mp4"
    assert index.get("y") == tmp_path / "a/y.mkv"
    assert index.others("x") == [tmp_path / "a/x.avi"]
    assert index.others("z") == []


def test_prefix_as_written_wins(tmp_path):
    for name in ("v_x.mp4", "x.mp4"):
        (tmp_path / name).touch()
    index = find_videos(tmp_path)
    assert index.get("v_x") == tmp_path / "v_x.mp4"
    assert index.get("x") == tmp_path / "x.mp4"
    assert index.others("v_x") == [tmp_path / "x.mp4"]
    assert index.others("x") == [tmp_path / "v_x.mp4"]


def test_hidden_links_and_loops(tmp_path):
    root, store = tmp_path / "root", tmp_path / "store"
    root.mkdir()
    store.mkdir()
    (store / "a.mp4").touch()
    (root / "b.mp4").symlink_to(store / "a.mp4")
    (root / "gone.mp4").symlink_to(store / "nothing.mp4")
    (root / ".part.mp4").touch()
    (root / "loop").symlink_to(root)
    (root / "more").symlink_to(store)
    index = find_videos(root)
    assert set(index.files) == {"a", "b"}


def test_folder_that_cannot_be_listed(tmp_path):
    with pytest.raises(UserError, match="cannot list"):
        find_videos(tmp_path / "nowhere")


def test_dots_within_a_name_are_kept():
    name = "0017_Pianist_00.23.28.872-00.23.34.843"
    assert {stem(name), stem(f"{name}.AVI"), stem(f"{name}.")} == {name}


def test_clips_that_differ_behind_the_dots_only(tmp_path):
    names = [f"0017_Pianist_00.23.28.{i}-00.23.34.843" for i in (872, 873)]
    for name in names:
        (tmp_path / f"{name}.avi").touch()
    index = find_videos(tmp_path)
    assert [index.get(name) for name in names] == [tmp_path / f"{name}.avi" for name in names]
    assert index.get("0017_Pianist_00.23.28") is None
