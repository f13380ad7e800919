"""compress_video.py, run as a user runs it, on real videos."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from compress_plan import VIDEO_SUFFIXES
from media_helpers import (
    assert_refused,
    ffmpeg,
    files_under,
    make_video,
    output_of,
    processes_naming,
    read_video,
    report_rows,
    run_script,
    script_command,
    stream_lines,
)

from tvr.dataloaders.videos import EXTENSIONS

SCRIPT = "compress_video.py"
BOOKS = {"compress_report.csv", "compress_settings.json"}
X264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p")
# Source, its container's codec, its size, and the size that must come out.
GOOD = {
    "wide.mp4": (X264, "320x240", (298, 224)),
    "sub/odd.mkv": (("-c:v", "ffv1"), "321x243", (296, 224)),
    "sub/deep/old.AVI": (("-c:v", "mpeg4"), "400x224", (400, 224)),
    "sub/tall.mov": (X264, "180x320", (224, 398)),
    "web.webm": (
        ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8"),
        "96x96",
        (224, 224),
    ),
    "phone.3gp": (("-c:v", "mpeg4"), "176x144", (274, 224)),
    "dash/-i name.mp4": (X264, "320x240", (298, 224)),
    "spaces and Zürich 日本 %03d 'q'.mp4": (X264, "320x240", (298, 224)),
    "bare dot.": ((*X264, "-f", "mp4"), "320x240", (298, 224)),
    "no_ending.v2.flv": (("-c:v", "flv"), "320x240", (298, 224)),
}


def compress(source: Path, target: Path, *more: object) -> subprocess.CompletedProcess[str]:
    return run_script(SCRIPT, "--input_root", source, "--output_root", target, *more)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A folder of sources, good and bad, and the finished run over it."""
    root = tmp_path_factory.mktemp("compress")
    source, target = root / "in", root / "out"
    for name, (codec, size, _) in GOOD.items():
        make_video(source / name, size, 2, *codec)
    # Sound that goes on after the picture, which is no damage.
    ffmpeg(
        *("-f", "lavfi", "-i", "testsrc=s=320x240:r=25:d=2", "-f", "lavfi", "-i", "sine=d=6"),
        *("-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libvorbis"),
        str(source / "sound.mkv"),
    )
    (source / "page.mp4").write_text("<!DOCTYPE html><html><body>404</body></html>")
    (source / "empty.mp4").touch()
    (source / "gone.mp4").symlink_to("nowhere.mp4")
    (source / "notes.txt").write_text("not a video")
    shutil.copy(source / "wide.mp4", source / "sub" / "bare")
    shutil.copy(source / "wide.mp4", source / "sub" / "odd.VIDEO")
    (source / ".hidden.mp4").write_text("not a video")
    whole = make_video(root / "whole.mp4", "320x240", 8, *X264, "-movflags", "+faststart")
    (source / "cut.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    return source, target, compress(source, target)


def test_good_videos_have_the_size_rate_and_length_asked_for(tree):
    _, target, _ = tree
    for name, (_, _, (width, height)) in GOOD.items():
        fps, frames = read_video(target / output_of(name))
        assert fps == pytest.approx(3)
        assert frames.shape == (6, height, width, 3), name


def test_outputs_hold_one_h264_stream_and_the_index_first(tree):
    _, target, _ = tree
    for name in [*GOOD, "sound.mkv"]:
        path = target / output_of(name)
        lines = stream_lines(path)
        assert len(lines) == 1, name
        assert "Video: h264" in lines[0]
        assert "yuv420p" in lines[0]
        data = path.read_bytes()
        assert data.index(b"moov") < data.index(b"mdat")


def test_bad_videos_are_reported_and_the_others_are_made(tree):
    source, target, done = tree
    assert done.returncode == 1
    bad = {"page.mp4", "empty.mp4", "gone.mp4", "cut.mp4"}
    rows = report_rows(target)
    assert {name for name, row in rows.items() if row["status"] == "failed"} == bad
    assert {name for name, row in rows.items() if row["status"] == "done"} == {*GOOD, "sound.mkv"}
    assert "Invalid data" in rows["page.mp4"]["reason"]
    assert "cut off" in rows["cut.mp4"]["reason"]
    for name in bad:
        assert f"failed: {name}: {rows[name]['reason']}" in done.stderr
    assert "11 compressed, 0 already there, 4 failed" in done.stdout
    assert "no videos by their names: 1 .txt, 1 no extension, 1 .video\n" in done.stdout
    assert files_under(target) == {output_of(name) for name in [*GOOD, "sound.mkv"]} | BOOKS
    row = rows["wide.mp4"]
    assert int(row["source_bytes"]) == (source / "wide.mp4").stat().st_size
    assert int(row["output_bytes"]) == (target / "wide.mp4").stat().st_size


def test_what_is_compressed_is_what_training_finds():
    assert {f".{suffix}" for suffix in VIDEO_SUFFIXES} == set(EXTENSIONS)


def test_name_that_is_not_utf8_is_reported(tmp_path):
    make_video(tmp_path / "in" / "a.mp4", "320x240", 1, *X264)
    shutil.copy(tmp_path / "in" / "a.mp4", tmp_path / "in" / "b\udcff.mp4")
    assert compress(tmp_path / "in", tmp_path / "out").returncode == 1
    rows = report_rows(tmp_path / "out")
    assert rows["a.mp4"]["status"] == "done"
    assert "not valid UTF-8" in rows["b\udcff.mp4"]["reason"]


def test_second_run_keeps_what_is_finished(tree):
    source, target, _ = tree
    made = sorted(target.rglob("*.mp4"))
    before = [path.stat().st_mtime_ns for path in made]
    done = compress(source, target)
    assert "0 compressed, 11 already there, 4 failed" in done.stdout
    assert [path.stat().st_mtime_ns for path in made] == before
    assert report_rows(target)["wide.mp4"]["status"] == "skipped"


def test_source_newer_than_its_output_is_redone(tmp_path):
    source = make_video(tmp_path / "in" / "a.mp4", "320x240", 1, *X264)
    make_video(tmp_path / "in" / "b.mp4", "320x240", 1, *X264)
    assert compress(source.parent, tmp_path / "out").returncode == 0
    make_video(source, "320x240", 2, *X264)
    later = (tmp_path / "out" / "a.mp4").stat().st_mtime + 1
    os.utime(source, (later, later))
    assert "1 compressed, 1 already there" in compress(source.parent, tmp_path / "out").stdout
    assert len(read_video(tmp_path / "out" / "a.mp4")[1]) == 6


def test_frames_show_their_own_time(tmp_path):
    # Frame n of the source has brightness 16 + n.
    ramp = "geq=lum='16+N':cb=128:cr=128"
    make_video(tmp_path / "in" / "ramp.avi", "160x120", 6, "-vf", ramp, "-c:v", "ffv1")
    assert compress(tmp_path / "in", tmp_path / "out", "--fps", 5).returncode == 0
    fps, frames = read_video(tmp_path / "out" / "ramp.mp4")
    assert fps == pytest.approx(5)
    assert len(frames) == 30
    for index, frame in enumerate(frames):
        number = frame.mean() * 219 / 255  # full range back to video range
        assert abs(number - index * 5) <= 4


def test_turned_and_stretched_pictures_keep_the_shown_aspect(tmp_path):
    plain = make_video(tmp_path / "plain.mp4", "320x240", 1, *X264)
    source = tmp_path / "in"
    source.mkdir()
    ffmpeg("-display_rotation", "90", "-i", str(plain), "-c", "copy", str(source / "turned.mp4"))
    ffmpeg("-i", str(plain), "-vf", "setsar=2", *X264, str(source / "stretched.mp4"))
    assert compress(source, tmp_path / "out", "--short_side", 120).returncode == 0
    assert read_video(tmp_path / "out" / "turned.mp4")[1].shape[1:3] == (160, 120)
    assert read_video(tmp_path / "out" / "stretched.mp4")[1].shape[1:3] == (120, 320)


def test_video_shorter_than_one_output_frame_gives_one_frame(tmp_path):
    make_video(tmp_path / "in" / "blink.mp4", "320x240", 0.08, *X264)
    assert compress(tmp_path / "in", tmp_path / "out").returncode == 0
    assert len(read_video(tmp_path / "out" / "blink.mp4")[1]) == 1


def test_other_settings_are_refused_until_overwrite(tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    for name in ("a.mp4", "b.mp4"):
        make_video(source / name, "320x240", 1, *X264)
    assert compress(source, target).returncode == 0
    before = (target / "a.mp4").read_bytes()
    refused = compress(source, target, "--fps", 5)
    assert_refused(refused, "--fps 3 --short_side 224", "--fps 5 --short_side 224", "--overwrite")
    assert (target / "a.mp4").read_bytes() == before
    (source / "b.mp4").write_text("broken since")
    assert compress(source, target, "--fps", 5, "--overwrite").returncode == 1
    assert not (target / "b.mp4").exists(), "made with 3 fps, it would pass for 5 fps later"
    assert read_video(target / "a.mp4")[0] == pytest.approx(5)
    assert json.loads((target / "compress_settings.json").read_text())["fps"] == 5
    (target / "compress_settings.json").unlink()
    assert_refused(compress(source, target, "--fps", 5), "a.mp4", "compress_settings.json")


def test_user_errors(tmp_path):
    source = tmp_path / "in"
    make_video(source / "a.mp4", "320x240", 0.2, *X264)
    (tmp_path / "none").mkdir()
    out = tmp_path / "out"
    assert_refused(compress(tmp_path / "absent", out), "--input_root", "absent")
    assert_refused(compress(tmp_path / "none", out), "no videos found", ".wmv)\n")
    (tmp_path / "none" / "a").touch()
    assert_refused(compress(tmp_path / "none", out), "no videos found", "; there: 1 no extension)")
    assert_refused(compress(source, source), "--output_root is --input_root")
    assert_refused(compress(source, source / "x"), "inside --input_root")
    assert_refused(compress(source, tmp_path), "inside --output_root")
    assert_refused(compress(source, source / "a.mp4"), "this is a file")
    assert_refused(compress(source, out, "--short_side", 225), "--short_side", "even")
    assert_refused(compress(source, out, "--fps", 0), "--fps", "above 0")
    assert_refused(compress(source, out, "--fps", "nan"), "--fps", "above 0")
    assert_refused(compress(source, out, "--workers", 0), "--workers")
    shutil.copy(source / "a.mp4", source / "a.avi")
    assert_refused(compress(source, out), "'a.avi' and 'a.mp4'", "rename or move")
    assert not out.exists()


def test_ffmpeg_without_h264_is_passed_over_or_named(tmp_path):
    make_video(tmp_path / "in" / "a.mp4", "320x240", 0.2, *X264)
    poor = tmp_path / "bin" / "ffmpeg"
    poor.parent.mkdir()
    poor.write_text("#!/bin/sh\necho no encoders here\n")
    poor.chmod(0o755)
    path = f"{poor.parent}:{os.environ['PATH']}"
    roots = ("--input_root", tmp_path / "in", "--output_root", tmp_path / "out")
    refused = run_script(SCRIPT, *roots, PATH=path, IMAGEIO_FFMPEG_EXE="/absent")
    assert_refused(refused, str(poor), "no libx264", "install ffmpeg")
    assert run_script(SCRIPT, *roots, PATH=path).returncode == 0


@pytest.fixture(scope="module")
def long_sources(tmp_path_factory):
    """Eight videos, each of which takes a while."""
    source = tmp_path_factory.mktemp("long")
    first = make_video(source / "v0.mp4", "1280x720", 8, *X264, source="testsrc2")
    for index in range(1, 8):
        shutil.copy(first, source / f"v{index}.mp4")
    return source


def start_and_wait(source: Path, target: Path) -> subprocess.Popen[bytes]:
    """Start a run; return once it has finished a video and is at the next one."""
    process = subprocess.Popen(
        script_command(SCRIPT, "--input_root", source, "--output_root", target, "--workers", 1),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (any(target.glob("v*.mp4")) and any(target.glob(".*.part.mp4"))):
        assert process.poll() is None, "the run ended before it could be disturbed"
        time.sleep(0.005)
    return process


def test_killed_run_is_made_complete_by_the_next(long_sources, tmp_path):
    process = start_and_wait(long_sources, tmp_path)
    # Held still, so that the half file seen is there when the kill comes.
    while True:
        process.send_signal(signal.SIGSTOP)
        assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1]), "the run ended too soon"
        if any(tmp_path.glob(".*.part.mp4")):
            break
        process.send_signal(signal.SIGCONT)
        time.sleep(0.01)
    process.kill()
    process.wait()
    early = {path: path.stat().st_mtime_ns for path in tmp_path.glob("v*.mp4")}
    assert 0 < len(early) < 8
    assert any(tmp_path.glob(".*.part.mp4"))
    assert compress(long_sources, tmp_path).returncode == 0
    assert files_under(tmp_path) == {f"v{index}.mp4" for index in range(8)} | BOOKS
    for index in range(8):
        assert len(read_video(tmp_path / f"v{index}.mp4")[1]) == 24
    assert {path: path.stat().st_mtime_ns for path in early} == early


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_stopped_run_leaves_no_half_files_and_no_processes(long_sources, tmp_path, stop):
    process = start_and_wait(long_sources, tmp_path)
    # A child held still never ends by itself: the stop has to kill it.
    while not (children := processes_naming(tmp_path, ".part.mp4")):
        assert process.poll() is None, "the run ended before it could be stopped"
    for child in children:
        os.kill(child, signal.SIGSTOP)
    process.send_signal(stop)
    assert process.wait() == 130
    assert not list(tmp_path.glob(".*"))
    assert len(list(tmp_path.glob("v*.mp4"))) < 8
    assert not processes_naming(tmp_path)


def test_part_files_of_running_processes_are_left_alone(tmp_path):
    make_video(tmp_path / "in" / "a.mp4", "320x240", 0.2, *X264)
    target = tmp_path / "out"
    target.mkdir()
    mine = target / f".0123456789abcdef.{os.getpid()}.part.mp4"
    mine.touch()
    assert compress(tmp_path / "in", target).returncode == 0
    assert mine.exists()


def test_timeout_is_reported(long_sources, tmp_path):
    done = compress(long_sources, tmp_path, "--timeout", 0.01)
    assert done.returncode == 1
    assert {row["status"] for row in report_rows(tmp_path).values()} == {"failed"}
    assert "--timeout 0.01 s" in done.stderr
    assert files_under(tmp_path) == BOOKS
