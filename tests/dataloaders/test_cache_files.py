"""The cache's files, harmed in every way: nothing wrong is served, and what is lost comes back."""

import os
import shutil
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch
from caches import SETTINGS, lines, make_read_only, mounted, served, spoil
from clips import make_clip

from tvr.dataloaders.cache_folder import MARKER, folder_problem
from tvr.dataloaders.cache_shards import checksum
from tvr.dataloaders.records import Clip
from tvr.utils.errors import UserError

LENGTHS = (3, 6, 9)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Three clips of 1, 2 and 3 frames."""
    folder = tmp_path_factory.mktemp("clips")
    return [Clip(f"v{n}", make_clip(folder / f"v{n}.mp4", n, size=(48, 64))) for n in LENGTHS]


@pytest.fixture(scope="module")
def expected(clips):
    return [SETTINGS.read(clip) for clip in clips]


@pytest.fixture(scope="module")
def original(clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("original") / "cache"
    fill(folder, clips)
    return folder


@pytest.fixture
def folder(original, tmp_path):
    """A cache that holds the three clips, in the files of one process."""
    return shutil.copytree(original, tmp_path / "cache")


def fill(folder, clips):
    cached = SETTINGS.cached(folder)
    for clip in clips:
        cached.read(clip)


def only(folder, suffix):
    (path,) = folder.glob(f"*{suffix}")
    return path


def right(frames, expected):
    return all(torch.equal(a, b) for a, b in zip(frames, expected, strict=True))


def there(folder, clips, expected):
    """Which clips are served, all of them with the right frames."""
    found = served(folder, clips)
    for frames_FCHW, wanted in zip(found, expected, strict=True):
        assert frames_FCHW is None or torch.equal(frames_FCHW, wanted)
    return [frames_FCHW is not None for frames_FCHW in found]


def test_damaged_frames_are_noticed_and_replaced(folder, clips, expected):
    path = only(folder, ".frames")
    content = bytearray(path.read_bytes())
    content[len(expected[0].flatten()) + 5] ^= 1
    path.write_bytes(content)
    assert there(folder, clips, expected) == [True, False, True]
    cached = SETTINGS.cached(folder)
    assert right([cached.read(clip) for clip in clips], expected)
    facts, warnings = cached.cache.news()
    said = "1 entries added, 1 of them in place of damaged entries"
    assert (facts, warnings) == ([f"frame cache {folder}: {said}"], [])
    assert path.read_bytes() == content, "damaged or not, nothing is written over"
    assert there(folder, clips, expected) == [True, True, True]


def test_damage_that_comes_later_is_noticed_too(folder, clips, expected):
    cached = SETTINGS.cached(folder)
    assert right([cached.read(clip) for clip in clips], expected)
    path = only(folder, ".frames")
    with path.open("r+b") as file:
        file.write(b"\1" * 100)
    assert right([cached.read(clip) for clip in clips], expected)
    assert "in place of damaged" in cached.cache.news()[0][0]


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("kept", [0, 1, 3072, 3073, 9216, 18431, None])
def test_a_shard_that_was_cut_or_deleted(folder, clips, expected, kept, opened):
    """Also after it was mapped, where a touch beyond its end would kill the process."""
    cached = SETTINGS.cached(folder)
    if opened:
        cached.read(clips[2])
    path = only(folder, ".frames")
    if kept is None:
        path.unlink()
    else:
        os.truncate(path, kept)
    assert right([cached.read(clip) for clip in clips], expected)
    # what this process has mapped outlives the file's name, so another one has to notice
    fill(folder, clips)
    assert there(folder, clips, expected) == [True, True, True]


def test_a_line_that_was_not_finished(folder, clips, expected):
    index = only(folder, ".index")
    content = index.read_bytes()
    start = content.rstrip().rfind(b"\n") + 1
    for end in range(start, len(content)):
        index.write_bytes(content[:end])
        assert there(folder, clips, expected) == [True, True, False]
    fill(folder, clips)
    assert there(folder, clips, expected) == [True, True, True]


def test_a_line_that_is_finished_later(folder, clips, expected):
    index = only(folder, ".index")
    content = index.read_bytes()
    index.write_bytes(content[:-20])
    cached = SETTINGS.cached(folder)
    assert right([cached.read(clip) for clip in clips[:2]], expected[:2])
    index.write_bytes(content)
    assert right([cached.read(clips[2])], expected[2:])
    assert len(list(folder.glob("*.index"))) == 1, "it was decoded again"


def test_a_damaged_line_or_header(folder, clips, expected):
    index = only(folder, ".index")
    content = index.read_bytes()
    for place in range(0, len(content), 7):
        harmed = bytearray(content)
        harmed[place] ^= 4
        index.write_bytes(harmed)
        assert there(folder, clips, expected).count(False) >= 1
    fill(folder, clips)
    assert there(folder, clips, expected) == [True, True, True]


def hostile_lines(key, other):
    """Lines with a right checksum of their own; `other` is the line of another clip."""
    frames = ("0 1 00000000 0", "0 9999 00000000 0", "0 0 00000000 0", "3072 2 ffffffff 0")
    offsets = ("-1 1", "999999999999999 1", "9" * 400 + " 1", "NaN 1", "1e3 1", "inf 1")
    texts = [f"{key} {rest}" for rest in frames]
    texts += [f"{key} {rest} 00000000 0" for rest in offsets]
    texts += [f"{key} 0 {n} 00000000 0" for n in ("-1", "nan", "1.5", "99999999999")]
    texts += [f"{key} ../../etc/passwd 1 00000000 0", f"{key}\0 0 1 00000000 0", "", " ", "\0" * 99]
    texts += [f"{key} {other.decode().partition(' ')[2]}", "٣" * 32 + " 0 1 00000000 0", "{}"]
    return [text.encode() for text in texts] + [b"\xff" * 50, b"x" * 1_000_000]


def test_hostile_lines_do_no_harm(folder, clips, expected):
    """Also where they are the newest of a clip, and give another clip's frames as its own."""
    index = only(folder, ".index")
    key = lines(folder)[0].split(b" ")[0].decode()
    other = lines(folder)[1][:-9]
    with index.open("ab") as file:
        for line in hostile_lines(key, other):
            file.write(b"%b %08x\n" % (line, crc32(line)))
    assert there(folder, clips, expected) == [True, True, True]
    cached = SETTINGS.cached(folder)
    assert right([cached.read(clip) for clip in clips], expected)
    assert "damaged lines" in cached.cache.describe()


def test_more_frames_than_there_may_be(folder, clips):
    """Whole and with every checksum, yet no more than --max_frames are ever served."""
    key = lines(folder)[0].split(b" ")[0]
    frames_FCHW = np.zeros((5, 3, 32, 32), np.uint8)
    offset = only(folder, ".frames").stat().st_size
    line = b"%b %d 5 %08x 0" % (key, offset, checksum(key, frames_FCHW))
    with only(folder, ".frames").open("ab") as file:
        file.write(frames_FCHW.tobytes())
    with only(folder, ".index").open("ab") as file:
        file.write(b"%b %08x\n" % (line, crc32(line)))
    assert len(SETTINGS.cached(folder).read(clips[0])) == 1


def test_other_files_in_a_cache_do_no_harm(folder, clips, expected):
    shard = only(folder, ".index").name
    (folder / "note.txt").write_text("mine")
    (folder / ("a" * 32 + ".index")).mkdir()
    (folder / ("b" * 32 + ".index")).touch()
    shutil.copy(folder / shard, folder / ("c" * 32 + ".index"))
    shutil.copy(folder / shard, folder / ("d" * 32 + ".index"))
    os.mkfifo(folder / ("d" * 32 + ".frames"))
    os.mkfifo(folder / ("e" * 32 + ".index"))
    assert there(folder, clips, expected) == [True, True, True]


def test_a_folder_that_is_no_cache_is_left_alone(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").write_text("years of work")
    (tmp_path / "file").touch()
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    for name, said in (("full", "holds 'thesis.txt'"), ("file", "not a folder"), ("nowhere", "")):
        with pytest.raises(UserError, match=f"--frame_cache .*{name}: .*{said}"):
            SETTINGS.cached(tmp_path / name)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("This folder is a frame cache, made by tvr, format 2\n", "of format 2, and this program"),
        ("something else", "not a frame cache"),
        ("", "not a frame cache"),
    ],
)
def test_a_cache_of_another_format_is_left_alone(folder, text, said):
    (folder / MARKER).write_text(text)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UserError, match=f"--frame_cache .*{said}"):
        SETTINGS.cached(folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_what_a_process_killed_at_its_start_leaves(tmp_path, clips, expected):
    """A part of the marker, files without a header, frames without a line."""
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / f".{MARKER}.123.part").write_text("This fol")
    assert folder_problem(folder) is None
    fill(folder, clips)
    for name in "ab":
        (folder / (name * 32 + ".frames")).write_bytes(b"abc")
    (folder / ("a" * 32 + ".index")).write_bytes(b'{"pixels"')
    assert there(folder, clips, expected) == [True, True, True]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--frame_cache .*file/cache: cannot be (read|created)"):
        SETTINGS.cached(tmp_path / "file" / "cache")


def test_a_cache_that_cannot_be_written_is_served_from(original, clips, expected, tmp_path):
    with mounted(tmp_path / "disk") as disk:
        shutil.copytree(original, disk / "cache")
        path = only(disk / "cache", ".frames")
        path.write_bytes(b"\1" + path.read_bytes()[1:])
        make_read_only(disk)
        cached = SETTINGS.cached(disk / "cache")
        assert cached.cache.unwritable == "Read-only file system"
        assert there(disk / "cache", clips, expected) == [False, True, True]
        for _ in range(2):
            assert right([cached.read(clip) for clip in clips], expected)
        (warning,) = cached.cache.news()[1]
        assert warning.endswith("decoded 2 clips whose entries are damaged")
        with pytest.raises(UserError, match="cannot be created"):
            SETTINGS.cached(disk / "another")


def test_an_empty_folder_that_cannot_be_written(clips, expected, tmp_path):
    with mounted(tmp_path / "disk") as disk:
        make_read_only(disk)
        cached = SETTINGS.cached(disk)
        assert cached.cache.unwritable == "Read-only file system"
        assert right([cached.read(clip) for clip in clips], expected)


def test_a_full_disk_ends_the_writing_and_nothing_else(clips, expected, tmp_path):
    with mounted(tmp_path / "disk", "size=256k") as disk:
        cached = SETTINGS.cached(disk)
        # three pages of 4 KB are left: an index, the first clip's frames, and half of the second's
        (disk / "ballast").write_bytes(bytes(shutil.disk_usage(disk).free - 3 * 4096))
        for _ in range(2):
            assert right([cached.read(clip) for clip in clips], expected)
        facts, (warning,) = cached.cache.news()
        assert facts == [f"frame cache {disk}: 1 entries added"]
        assert "cannot be written any more (No space left on device)" in warning
        assert cached.cache.news() == ([], [])
        assert only(disk, ".frames").stat().st_size == expected[0].numel(), (
            "takes space for nothing"
        )
        assert there(disk, clips, expected) == [True, False, False]
        (disk / "ballast").unlink()
        assert right([cached.read(clip) for clip in clips], expected)
        assert there(disk, clips, expected) == [True, False, False], "the run had given up writing"
        fill(disk, clips)
        assert there(disk, clips, expected) == [True, True, True]


def test_a_cache_that_is_deleted_under_a_run(clips, expected, tmp_path):
    fill(tmp_path / "cache", clips[:2])
    cached = SETTINGS.cached(tmp_path / "cache")
    cached.read(clips[0])
    shutil.rmtree(tmp_path / "cache")
    assert right([cached.read(clip) for clip in clips], expected)
    (warning,) = cached.cache.news()[1]
    assert "cannot be written any more (No such file or directory)" in warning


def test_a_spoilt_video_shows_what_was_served(folder, clips, expected, tmp_path):
    """That these tests can tell a served clip from a decoded one."""
    video = Path(shutil.copy2(clips[0].path, tmp_path))
    fill(folder, [Clip("v", video)])
    spoil(video)
    assert there(folder, [Clip("v", video)], expected[:1]) == [True]
    with pytest.raises(UserError):
        SETTINGS.read(Clip("v", video))
