"""Real video files to measure on: a folder's own, or the made-up ones of the demo."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tvr.dataloaders.records import Caption, Clip, Split
from tvr.utils.errors import UserError

ROOT = Path(__file__).parent.parent


def make_shapes(folder: Path, train: int, test: int, seconds: float) -> None:
    """Render and compress the made-up set, as scripts/demo.sh does; what is there already stays.

    `folder` then has `anns` and `videos_3fps`.

    Raises:
        UserError: the folder holds something else.
    """
    folder = folder.resolve()
    sizes = ("--train", train, "--test", test, "--seconds", seconds, "--seed", 0)
    _preprocess("make_shapes.py", "--output", folder, *sizes)
    videos = ("--input_root", folder / "videos", "--output_root", folder / "videos_3fps")
    _preprocess("compress_video.py", *videos)


def _preprocess(program: str, *arguments: object) -> None:
    command = [sys.executable, ROOT / "preprocess" / program, *arguments]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{program}: {done.stderr.strip() or done.stdout.strip()}")


def split_of(folder: Path, count: int) -> Split:
    """The first `count` mp4 files below a folder, each with a caption of its name.

    Raises:
        UserError: there is no such file.
    """
    paths = sorted(folder.rglob("*.mp4"))[:count]
    if not paths:
        raise UserError(f"--videos {folder}: there is no .mp4 file. Name a folder of videos.")
    clips = [Clip(str(path.relative_to(folder)), path) for path in paths]
    captions = [Caption(clip.video_id, clip.video_id, clip.video_id) for clip in clips]
    return Split("clips", clips, captions)
