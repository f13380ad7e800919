"""Real video files for the tests: every frame carries its index as a picture."""

from __future__ import annotations

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np

BITS = 8
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-threads", "1", "-pix_fmt", "yuv420p")


def ffmpeg(*arguments: str | Path, stdin: bytes = b"") -> None:
    """Run ffmpeg; its errors fail the test."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, arguments)]
    subprocess.run(command, input=stdin, check=True)


def pictures(n: int, height: int, width: int) -> np.ndarray:
    """n frames_FHWC of moving ramps and noise; the top quarter shows the index in 8 bars."""
    generator = np.random.default_rng(n)
    y, x = np.mgrid[:height, :width]
    out = np.empty((n, height, width, 3), np.uint8)
    for i in range(n):
        out[i] = np.stack([2 * x + 7 * i, 3 * y + 11 * i, x + y + 5 * i], axis=-1) % 256
        spots = generator.integers(0, height, 300), generator.integers(0, width, 300)
        out[i][spots] = generator.integers(0, 256, (300, 3))
        for bit in range(BITS):
            bar = slice(bit * width // BITS, (bit + 1) * width // BITS)
            out[i, : height // 4, bar] = 255 * (i >> bit & 1)
    return out


def shown_index(frame_HWC: np.ndarray) -> int:
    """The index that a frame of `pictures` shows."""
    height, width = frame_HWC.shape[:2]
    middle = frame_HWC[height // 16 : 3 * height // 16].mean(axis=(0, 2))
    bars = [
        middle[int((bit + 0.3) * width / BITS) : int((bit + 0.7) * width / BITS)]
        for bit in range(BITS)
    ]
    return sum(1 << bit for bit, bar in enumerate(bars) if bar.mean() > 128)


def make_clip(
    path: Path,
    n: int,
    fps: str = "3",
    size: tuple[int, int] = (240, 320),
    encode: tuple[str, ...] = H264,
) -> Path:
    """Encode n `pictures` of size (height, width) into `path`."""
    height, width = size
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", fps, "-i", "-")
    ffmpeg(*raw, *encode, path, stdin=pictures(n, height, width).tobytes())
    return path
