"""Real videos for the tests, and the scripts run as a user runs them."""

import csv
import hashlib
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
# What the fixture `scenes` has
SMALL_SCENES = ("--train", 24, "--test", 15, "--pretrain", 30, "--captions", 3)


def ffmpeg(*arguments: str) -> None:
    """Run ffmpeg, and show what it says where it fails."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-y", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def make_video(path: Path, size: str, seconds: float, *codec: str, source: str = "testsrc") -> Path:
    """Write a test video of `size` (such as 320x240) at 25 fps, in the container of `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = f"{source}=s={size}:r=25:d={seconds}"
    ffmpeg("-f", "lavfi", "-i", picture, *codec, str(path.absolute()))
    return path


def script_command(name: str, *arguments: object) -> list[str]:
    """Return the command line of a preprocessing script."""
    return [sys.executable, str(ROOT / "preprocess" / name), *map(str, arguments)]


def run_script(
    name: str, *arguments: object, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a preprocessing script to its end."""
    return subprocess.run(
        script_command(name, *arguments),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def assert_refused(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """The script ended with code 2 and one message that has all of `parts`."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in done.stderr


def read_video(path: Path) -> tuple[float, np.ndarray]:
    """Return the fps and all decoded frames, N x height x width x 3."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    assert capture.isOpened(), path
    fps, frames = capture.get(cv2.CAP_PROP_FPS), []
    while True:
        good, frame = capture.read()
        if not good:
            break
        frames.append(frame)
    capture.release()
    return fps, np.stack(frames)


def stream_lines(path: Path) -> list[str]:
    """Return ffmpeg's description of each stream in a file."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-hide_banner", "-i", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [line.strip() for line in done.stderr.splitlines() if line.startswith("  Stream #")]


def files_under(root: Path) -> set[str]:
    """Return every file under a folder, as paths relative to it."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def content(folder: Path) -> dict[str, str]:
    """Return a digest of every annotation file, and of every video's decoded frames."""
    digests = {}
    for name in files_under(folder):
        path = folder / name
        data = read_video(path)[1].tobytes() if path.suffix == ".mp4" else path.read_bytes()
        digests[name] = hashlib.sha256(data).hexdigest()
    return digests


def processes_naming(*parts: object) -> list[int]:
    """Return the ids of the processes whose command line has all of `parts`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended meanwhile
            line = (entry / "cmdline").read_bytes()
            if all(os.fsencode(str(part)) in line for part in parts):
                found.append(int(entry.name))
    return found


def report_rows(target: Path) -> dict[str, dict[str, str]]:
    """Return the rows of a run's report by path."""
    path = target / "compress_report.csv"
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as stream:
        return {row["path"]: row for row in csv.DictReader(stream)}


def output_of(name: str) -> str:
    """Return the name that the output of a source has."""
    return name[: name.rindex(".")] + ".mp4"
