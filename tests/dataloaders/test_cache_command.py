"""`python -m tvr.dataloaders.cache`: real processes, stopped, killed, and two at once."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import open_clip
import pytest
import torch
from caches import SETTINGS, lines, make_read_only, mounted, served, spoil
from clips import make_clip
from lists import write_lists
from programs import ENVIRONMENT, ROOT

from tvr.config import Config
from tvr.dataloaders.cache import RESOLUTIONS, main, parse_args
from tvr.dataloaders.records import Clip
from tvr.dataloaders.videos import EXTENSIONS
from tvr.models.clip import TINY

TRAIN, TEST = 40, 5
FLAGS = ("--max_frames", 4, "--resolution", 32, "--allow_partial_gallery", 1)


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    return [make_clip(folder / f"{n}.mp4", n, size=(48, 64)) for n in (3, 6, 9, 12, 30)]


@pytest.fixture
def root(originals, tmp_path):
    """An MSR-VTT of 45 videos, in `anns` and `videos`."""
    (tmp_path / "anns").mkdir()
    (tmp_path / "videos").mkdir()
    ids = [f"video{i}" for i in range(TRAIN + TEST)]
    write_lists(tmp_path / "anns", ids[:TRAIN], [(name, "a dog") for name in ids[TRAIN:]])
    said = [{"video_id": name, "caption": "a", "sen_id": i} for i, name in enumerate(ids)]
    (tmp_path / "anns/MSRVTT_data.json").write_text(json.dumps({"sentences": said}))
    for i, name in enumerate(ids):
        shutil.copy2(originals[i % len(originals)], tmp_path / f"videos/{name}.mp4")
    return tmp_path


def arguments(root, *more):
    paths = ("--anno_path", root / "anns", "--video_path", root / "videos")
    cache = ("--frame_cache", root / "cache", "--workers", 2)
    return [str(part) for part in (*paths, *cache, *FLAGS, *more)]


def clips_of(root):
    return [Clip(path.stem, path) for path in sorted((root / "videos").glob("*.mp4"))]


def assert_right(root, missing=0, settings=SETTINGS):
    """All that is served is as decoded live, and no more than `missing` clips are not there."""
    clips = clips_of(root)
    found = served(root / "cache", clips, settings)
    for clip, frames_FCHW in zip(clips, found, strict=True):
        assert frames_FCHW is None or torch.equal(frames_FCHW, settings.read(clip)), clip
    assert sum(frames_FCHW is None for frames_FCHW in found) <= missing


def test_it_decodes_every_clip_once(root, capsys):
    expected = [SETTINGS.read(clip) for clip in clips_of(root)]
    assert main(arguments(root)) == 0
    printed = capsys.readouterr().out
    need = 9 * 3 * 32 * 32 * (1 + 2 + 3 + 4 + 4) / 1e6
    assert f"45 clips to decode need {need:.1f} MB, " in printed
    assert printed.endswith("45 clips: 0 were there, 45 decoded now, 0 unreadable\n")
    for clip in clips_of(root):
        spoil(clip.path)
    assert main(arguments(root)) == 0
    printed = capsys.readouterr().out
    assert "\n0 clips to decode need 0.0 MB, " in printed
    assert printed.endswith("\n45 clips: 45 were there, 0 decoded now, 0 unreadable\n")
    for wanted, found in zip(expected, served(root / "cache", clips_of(root)), strict=True):
        assert torch.equal(wanted, found)
    assert sum(path.stat().st_size for path in root.glob("cache/*.frames")) == round(need * 1e6)


def test_the_splits_that_are_named(root, capsys):
    assert main(arguments(root, "--splits", "test")) == 0
    assert "5 clips: 0 were there, 5 decoded now" in capsys.readouterr().out
    assert main(arguments(root, "--splits", "train,test")) == 0
    assert "45 clips: 5 were there, 40 decoded now" in capsys.readouterr().out
    assert_right(root)


def test_other_settings_share_the_folder(root, capsys):
    main(arguments(root))
    other = ("--max_frames", 2, "--video_framerate", 0.5, "--video_decoder", "opencv")
    assert main(arguments(root, *other)) == 0
    assert "0 clips with these settings, 45 entries with others" in capsys.readouterr().out
    assert_right(root)
    changed = {"max_frames": 2, "framerate": 0.5, "decoder": "opencv"}
    assert_right(root, settings=replace(SETTINGS, **changed))


def test_what_is_damaged_or_changed_is_made_again(root, capsys):
    main(arguments(root))
    for path in root.glob("cache/*.frames"):
        with path.open("r+b") as file:
            file.write(b"\1" * 10)
    shutil.copy(root / "videos/video1.mp4", root / "videos/video0.mp4")
    capsys.readouterr()
    shards = len(list(root.glob("cache/*.frames")))
    assert main(arguments(root)) == 0
    printed = capsys.readouterr().out
    again = int(re.search(r"(\d+) decoded now", printed)[1])
    assert shards <= again <= shards + 1
    assert "in place of damaged entries" in printed
    assert_right(root)


def test_videos_that_cannot_be_read_are_listed(root, capsys):
    spoil(root / "videos/video3.mp4")
    (root / "videos/video44.mp4").write_bytes(b"")
    for there, decoded in ((0, 43), (43, 0)):
        assert main(arguments(root)) == 1
        printed = capsys.readouterr()
        said = f"45 clips: {there} were there, {decoded} decoded now, 2 unreadable\n"
        assert printed.out.endswith(said)
        first, second = printed.err.splitlines()[-2:]
        assert first.endswith(
            "video3.mp4: the video file holds no video that can be decoded. "
            "Download or encode it again."
        )
        assert "video44.mp4: the video file is empty" in second
    found = served(root / "cache", clips_of(root))
    assert sum(frames_FCHW is None for frames_FCHW in found) == 2


def test_more_than_fits_is_refused_before_it_starts(root, capsys):
    assert main(arguments(root, "--resolution", 1_000_000)) == 2
    error = capsys.readouterr().err
    assert re.search(
        r"error: --frame_cache .*: 45 clips to decode need 378,000\.0 GB, [\d.,]+ .B are", error
    )
    assert lines(root / "cache") == []


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--splits", "train,val"), "--splits train,val: msrvtt 9k has train, test."),
        (("--protocol", "8k"), "--protocol 8k: msrvtt has 9k, 7k, full"),
        (("--frame_cache", "{root}/videos"), "videos: not a frame cache, and not empty"),
        (("--frame_cache", "{root}/anns/MSRVTT_data.json"), "is not a folder"),
        (("--video_path", "{root}/nowhere"), "--video_path .*nowhere: does not exist"),
        (("--allow_partial_gallery", 0), "5 videos, documented are 1,000"),
    ],
)
def test_refused(root, capsys, flags, said):
    assert main(arguments(root, *(str(flag).format(root=root) for flag in flags))) == 2
    assert re.search(f"^error: .*{said}", capsys.readouterr().err)
    assert not (root / "cache").exists() or not lines(root / "cache")
    assert {path.suffix for path in (root / "videos").iterdir()} <= {*EXTENSIONS}


def test_an_encoder_of_unknown_resolution_is_refused(root, capsys):
    argv = arguments(root, "--base_encoder", "open_clip:A/B")
    place = argv.index("--resolution")
    assert main(argv[:place] + argv[place + 2 :]) == 2
    assert "--base_encoder open_clip:A/B: its resolution is not known" in capsys.readouterr().err


def test_the_flags_are_those_of_a_run():
    required = ["--frame_cache", "c", "--anno_path", "a", "--video_path", "v"]
    args, config = vars(parse_args(required)), Config()
    config.resolve()
    ours = {"protocol", "anno_path", "video_path", "frame_cache", "workers"}
    names = args.keys() - ours - {"splits", "resolution"}
    assert {name: args[name] for name in names} == {name: getattr(config, name) for name in names}
    for name, resolution in RESOLUTIONS.items():
        tower = TINY if name == "tiny" else open_clip.get_model_config(name.replace("/", "-"))
        assert tower["vision_cfg"]["image_size"] == resolution


def test_a_disk_that_cannot_be_written_is_refused(root, capsys):
    with mounted(root / "disk") as disk:
        main(arguments(root, "--frame_cache", disk / "cache", "--splits", "test"))
        make_read_only(disk)
        assert main(arguments(root, "--frame_cache", disk / "cache")) == 2
        error = capsys.readouterr().err
        assert "cache: cannot be written (Read-only file system)." in error


def command(root, *more):
    return [sys.executable, "-m", "tvr.dataloaders.cache", *arguments(root, *more)]


def test_a_full_disk_stops_it_with_one_message(root):
    """A limit on the size of files stands for the disk, so that anyone can run this."""
    limited = ["bash", "-c", 'ulimit -f 100 && exec "$@"', "bash", *command(root)]
    done = subprocess.run(limited, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.fullmatch(
        r"error: --frame_cache .*/cache: cannot be written \(File too large\)\. What is decoded is "
        r"kept: free space, and give the command again\.\n",
        done.stderr,
    )
    kept = len(lines(root / "cache"))
    assert 10 < kept < 45
    assert_right(root, missing=45 - kept)
    assert main(arguments(root)) == 0
    assert len(lines(root / "cache")) == 45
    assert_right(root)


@contextmanager
def building(root):
    """The command's process, once it has kept 5 clips of so many that there is time to stop it."""
    for i in range(TRAIN):
        for copy in range(8):
            source = root / f"videos/video{i}.mp4"
            shutil.copy2(source, root / f"videos/video{1000 + 8 * i + copy}.mp4")
    ids = [path.stem for path in (root / "videos").iterdir()]
    write_lists(root / "anns", ids[TEST:], [(name, "a dog") for name in ids[:TEST]])
    said = [{"video_id": name, "caption": "a", "sen_id": i} for i, name in enumerate(ids)]
    (root / "anns/MSRVTT_data.json").write_text(json.dumps({"sentences": said}))
    process = subprocess.Popen(
        command(root),
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and len(lines(root / "cache")) < 5:
        time.sleep(0.01)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_keeps_what_it_has(root, stop):
    """As a terminal does, Ctrl-C is sent to all processes."""
    with building(root) as process:
        os.killpg(process.pid, stop) if stop == signal.SIGINT else process.send_signal(stop)
        err = process.communicate()[1]
    assert process.returncode == 130, err
    assert err == f"stopped; what is in {root / 'cache'} is kept\n"
    kept = len(lines(root / "cache"))
    assert 5 <= kept < TRAIN * 9 + TEST
    assert main(arguments(root)) == 0
    assert len(lines(root / "cache")) == TRAIN * 9 + TEST
    assert_right(root)


def test_a_decoding_process_that_dies(root):
    with building(root) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)
        err = process.communicate()[1]
    assert process.returncode == 2
    assert err.startswith("error: a process that decodes videos died")
    assert "Traceback" not in err
    assert main(arguments(root)) == 0
    assert_right(root)


def build(root):
    """In a session of its own, so that a kill reaches its workers as well."""
    os.setsid()
    sys.exit(main(arguments(root)))


def start(root):
    process = get_context("fork").Process(target=build, args=(root,))
    process.start()
    return process


def kill(process):
    """With its workers; it has none where it has not come to its session yet."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.join()


def test_killed_at_any_moment_it_goes_on_where_it_was(root):
    """Whatever a kill leaves behind, only whole clips are served, and those are not made again."""
    chance, kept = random.Random(0), [0]
    while len(kept) < 8 and kept[-1] < 45:
        process = start(root)
        aim = kept[-1] + chance.randrange(1, 6)
        while len(lines(root / "cache")) < aim and process.is_alive():
            time.sleep(0.0005)
        time.sleep(chance.random() * 0.02)
        kill(process)
        kept.append(len(lines(root / "cache")))
        assert_right(root, missing=45 - kept[-1])
    assert kept == sorted(kept)
    assert 0 < kept[1] < 45, "the first kill interrupted nothing"
    assert main(arguments(root)) == 0
    assert_right(root)
    assert len(lines(root / "cache")) == 45


def test_two_at_once_share_the_work(root):
    processes = [start(root) for _ in range(2)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert_right(root)
    # a clip that both come to at the same time is decoded by both
    assert 45 <= len(lines(root / "cache")) < 2 * 45
