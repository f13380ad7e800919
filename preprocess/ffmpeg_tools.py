"""What the preprocessing scripts share: finding ffmpeg, whole-file writes, clear errors."""

import argparse
import hashlib
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg

_PART_NAME = re.compile(r"\..+\.(\d{1,9})\.part(\.mp4)?")


class UserError(Exception):
    """Something the user can put right; its text is the whole message shown."""


def exit_code(script: str, body: Callable[[], int]) -> int:
    """Run a script's body; print a user's error as one line on stderr and return 2 for it.

    A stop by Ctrl-C or SIGTERM returns 130, as shells do.
    """
    try:
        return body()
    except UserError as error:
        print(f"{script}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{script}: stopped; the same command goes on from here", file=sys.stderr)
        return 130


def positive_int(text: str) -> int:
    """Read a whole number >= 1 for argparse, which reports a ValueError's flag and value."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {text}")
    return value


def natural_int(text: str) -> int:
    """Read a whole number >= 0 for argparse, which reports a ValueError's flag and value."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {text}")
    return value


def positive_float(text: str) -> float:
    """Read a finite number > 0 for argparse, which reports a ValueError's flag and value."""
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text}")
    return value


def _encodes_h264(ffmpeg: str) -> bool:
    try:
        listing = subprocess.run(
            [ffmpeg, "-hide_banner", "-encoders"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return b" libx264 " in listing.stdout


def find_ffmpeg() -> str:
    """Return the path of an ffmpeg that has libx264: the one on PATH, else imageio-ffmpeg's.

    Some packaged builds on PATH come without libx264; those are passed over.
    Raises UserError where neither can be used.
    """
    on_path = shutil.which("ffmpeg")
    if on_path is not None and _encodes_h264(on_path):
        return os.path.abspath(on_path)
    try:
        bundled = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        bundled = None
    if bundled is not None and _encodes_h264(bundled):
        return os.path.abspath(bundled)
    seen = "there is none" if on_path is None else f"{on_path} has no libx264"
    raise UserError(
        f"no usable ffmpeg: on PATH {seen}, and imageio-ffmpeg brings none here; "
        "install ffmpeg with libx264, or `pip install imageio-ffmpeg`"
    )


def part_path(output: Path) -> Path:
    """Return the temporary name for `output`: same folder, hidden, with this process's id.

    The name is a digest, so that a long name cannot grow past the file system's limit.
    """
    digest = hashlib.sha256(os.fsencode(output.name)).hexdigest()[:16]
    return output.with_name(f".{digest}.{os.getpid()}.part.mp4")


def publish(part: Path, output: Path) -> None:
    """Flush `part` to the disk and give it its final name in one step."""
    with open(part, "rb+") as stream:
        os.fsync(stream.fileno())
    os.replace(part, output)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file or none. Undecodable file names in `text` come back unchanged."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
    publish(part, path)


def _is_running(pid: int) -> bool:
    if pid == os.getpid():
        return False  # this process has written nothing yet: an earlier one had the same id
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def remove_leftovers(root: Path) -> None:
    """Delete the temporary files under `root` whose process is gone (it was killed)."""
    for folder, _, names in os.walk(root):
        for name in names:
            match = _PART_NAME.fullmatch(name)
            if match is not None and not _is_running(int(match.group(1))):
                Path(folder, name).unlink(missing_ok=True)
