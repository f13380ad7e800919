"""The index of a folder of videos: what is in it, and how it follows the folder."""

import csv
import io
import os
import shutil

import pytest
import torch
from clips import make_clip
from PIL import Image
from small_index import FRAMES, LOG, clip, copy, held, paths, same, update

from tvr.search.indexing import Indexer
from tvr.search.store import Store
from tvr.utils.errors import UserError


def test_every_video_is_there_with_its_features_and_preview(videos, index, model):
    (videos / "notes.txt").write_text("no video")
    shutil.copytree(videos / "more", videos / ".hidden")
    report = update(videos, index, model)
    assert (report.encoded, report.gallery, report.unreadable) == (7, 7, [])
    found = held(index)
    assert sorted(found) == [*(f"{i}.mp4" for i in range(6)), "more/0.mkv"]
    for path, (features, mean_D, preview, seconds) in found.items():
        assert features.frames_BFD.shape == (1, FRAMES, 128)
        assert features.frames_BFD.dtype == torch.float32
        real = features.frames_BFD[features.mask_BF]
        expected_D = torch.nn.functional.normalize(real.mean(dim=0), dim=0)
        torch.testing.assert_close(torch.from_numpy(mean_D), expected_D, atol=1e-6, rtol=0)
        duration = 4 if path == "more/0.mkv" else int(path[0]) + 1
        assert seconds == pytest.approx(duration, abs=0.4)
        assert len(real) == min(duration, FRAMES)
        with Image.open(io.BytesIO(preview)) as picture:
            assert picture.format == "WEBP"
            assert picture.size == (96, 64)
            assert picture.n_frames == len(real)
            if picture.n_frames > 1:
                assert picture.info["loop"] == 0
    sizes = {video.file.path: video.file.size for video in Store.open(index).videos}
    assert sizes["more/0.mkv"] == (videos / "more/0.mkv").stat().st_size


def test_previews_are_small(videos, index, model):
    make_clip(videos / "wide.mp4", 6, size=(240, 320))
    make_clip(videos / "upright.mp4", 6, size=(640, 360))
    update(videos, index, model)
    found = held(index)
    with Image.open(io.BytesIO(found["wide.mp4"][2])) as picture:
        assert picture.size == (160, 120)
    with Image.open(io.BytesIO(found["upright.mp4"][2])) as picture:
        assert picture.size == (160, 284)


def test_an_index_follows_its_folder(videos, index, model, tmp_path):
    update(videos, index, model)
    clip(videos / "new.mp4", seconds=7)
    clip(videos / "1.mp4", seconds=8)
    (videos / "2.mp4").unlink()
    (videos / "3.mp4").rename(videos / "renamed.mp4")
    report = update(videos, index, model)
    assert (report.encoded, report.gallery) == (3, 7)
    update(videos, tmp_path / "fresh", model)
    assert same(index, tmp_path / "fresh", tolerance=1e-5)
    assert paths(index) == [
        *("0.mp4", "1.mp4", "4.mp4", "5.mp4", "more/0.mkv", "new.mp4", "renamed.mp4"),
    ]


def test_what_did_not_change_is_not_decoded_again(videos, index, model):
    update(videos, index, model)
    before = held(index)
    for video in videos.rglob("*.m*"):
        if video.is_file():
            seen = video.stat()
            video.write_bytes(bytes(seen.st_size))
            os.utime(video, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    report = update(videos, index, model)
    assert (report.encoded, report.gallery, report.unreadable) == (0, 7, [])
    after = held(index)
    assert all(torch.equal(after[p][0].frames_BFD, before[p][0].frames_BFD) for p in before)


def test_the_store_does_not_grow_with_every_change(videos, index, model, tmp_path):
    update(videos, index, model)
    size = sum(path.stat().st_size for path in index.iterdir())
    for seconds in range(2, 9):
        clip(videos / "0.mp4", seconds=seconds)
        update(videos, index, model)
    assert sum(path.stat().st_size for path in index.iterdir()) < 2 * size
    assert len(list(index.glob("shard-*"))) <= 4
    assert len(list(index.glob("vectors-*"))) == 1
    update(videos, tmp_path / "fresh", model)
    assert same(index, tmp_path / "fresh", tolerance=1e-5)


def test_unreadable_files_are_listed_and_tried_again(videos, index, model):
    (videos / "empty.mp4").touch()
    half = (videos / "5.mp4").read_bytes()
    (videos / "5.mp4").write_bytes(half[: len(half) // 2])
    for name in ("page.mp4", "z1.mp4", "z2.mp4", "z3.mp4"):
        (videos / name).write_text("<html>404</html>")
    report = update(videos, index, model)
    assert (report.encoded, report.gallery) == (6, 6)
    with (index / "unreadable.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [
        *("5.mp4", "empty.mp4", "page.mp4", "z1.mp4", "z2.mp4", "z3.mp4"),
    ]
    assert "cut off" in rows[0]["problem"]
    assert "empty" in rows[1]["problem"]
    (videos / "z1.mp4").unlink()
    again = update(videos, index, model)
    assert again.encoded == 0
    assert len(again.unreadable) == 5
    (videos / "5.mp4").write_bytes(half)
    assert update(videos, index, model).encoded == 1
    assert "5.mp4" in paths(index)


def test_names_may_hold_anything(videos, index, model):
    names = (
        b"new\nline.mp4",
        b"\x1b[31mred.mp4",
        b"bad\xff.mp4",
        b"n" * 251 + b".mp4",
        b"a'b\".mp4",
    )
    copy(videos / "0.mp4", *names)
    copy(videos / "0.mp4", b"caf\xe9.webm")
    (videos / os.fsdecode(b"caf\xe9.webm")).write_text("broken")
    report = update(videos, index, model)
    assert (report.gallery, len(report.unreadable)) == (12, 1)
    assert {os.fsencode(path) for path in paths(index)} > set(names)
    assert b"caf\xe9.webm" in (index / "unreadable.csv").read_bytes()
    assert update(videos, index, model).encoded == 0
    found = held(index)
    features = [found[os.fsdecode(name)][0].frames_BFD for name in (*names, b"0.mp4")]
    assert all(torch.allclose(feature, features[0], atol=1e-5) for feature in features)


def test_links_in_a_circle_are_passed_over(videos, index, model):
    (videos / "loop.mp4").symlink_to("loop.mp4")
    (videos / "one").symlink_to("other")
    (videos / "other").symlink_to("one")
    assert update(videos, index, model).gallery == 7


def test_nothing_to_index(index, model, tmp_path):
    with pytest.raises(UserError, match=r"--videos .*gone: no such folder"):
        update(tmp_path / "gone", index, model)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/notes.txt").touch()
    with pytest.raises(UserError, match=r"holds no video file.*\.mp4"):
        update(tmp_path / "empty", index, model)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.mp4").write_text("<html>")
    with pytest.raises(UserError, match=r"none of its 1 .*unreadable.csv.*a\.mp4: .*decoded"):
        update(tmp_path / "bad", index, model)
    with pytest.raises(UserError, match="no finished index"):
        Store.open(index)


def test_a_file_is_read_once_it_can_be(videos, index, model, tmp_path):
    """Also one that is the same by path, size and time of change."""
    whole, cut = tmp_path / "5.mp4", videos / "5.mp4"
    cut.rename(whole)
    seen = whole.stat()
    cut.write_bytes(bytes(seen.st_size))
    os.utime(cut, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    assert [record.file.path for record in update(videos, index, model).unreadable] == ["5.mp4"]
    whole.rename(cut)
    os.utime(cut, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    report = update(videos, index, model)
    assert (report.encoded, report.gallery, report.unreadable) == (1, 7, [])


def test_what_is_encoded_is_written_in_time(videos, index, model, tmp_path):
    """Here after every batch of two; in the end the small shards are put together."""
    report = Indexer(videos, index, model, per_shard=256, seconds=0).run(LOG)
    assert report.encoded == 7
    (shard,) = index.glob("shard-*")
    assert shard.name == "shard-000004.safetensors"
    update(videos, tmp_path / "straight", model, per_shard=256)
    assert same(index, tmp_path / "straight")
