"""What a few flipped bytes among a video's pictures come to: an error, or frames that are wrong.

    PYTHONPATH=.:tests/dataloaders python tests/faults/flipped_bytes.py 200

prints the table of docs/reliability.md, of 200 files a row. The clip is that of broken_videos.py.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from broken_videos import FPS, FRAMES, SECONDS, SIZE, box
from clips import make_clip

from tvr.dataloaders.decoding import DecoderProcess
from tvr.dataloaders.reading import DECODERS, Request, UnreadableVideo, read_with_either

BYTES = (1, 4, 16, 64)
OUTCOMES = ("error", "the right frames", "wrong frames")


def flipped(content: bytes, count: int, chance: random.Random) -> bytes:
    """The file with other values in `count` bytes of its pictures."""
    new, pictures = bytearray(content), box(content, b"mdat")
    for place in chance.sample(range(pictures.start, pictures.stop), count):
        new[place] ^= chance.randint(1, 255)
    return bytes(new)


def outcomes(folder: Path, count: int, files: int, decoder: str) -> Counter[str]:
    """How often each of `OUTCOMES` comes, of so many files with `count` flipped bytes."""
    clip, path = make_clip(folder / "whole.mp4", FRAMES, FPS, SIZE), folder / "x.mp4"
    content, chance, process = clip.read_bytes(), random.Random(count), DecoderProcess(SECONDS)

    def frames_of(video: Path) -> np.ndarray:
        return read_with_either(Request(video, 1.0, FRAMES), decoder, process.read).frames_FHWC

    right_FHWC, found = frames_of(clip), Counter()
    for _ in range(files):
        path.write_bytes(flipped(content, count, chance))
        try:
            same = np.array_equal(frames_of(path), right_FHWC)
            found[OUTCOMES[1 if same else 2]] += 1
        except UnreadableVideo:
            found[OUTCOMES[0]] += 1
    process.close()
    return found


def table(folder: Path, files: int) -> str:
    """The Markdown of all outcomes, in files."""
    lines = [
        f"| flipped bytes | asked for | {' | '.join(OUTCOMES)} |",
        "| ---: | --- | ---: | ---: | ---: |",
    ]
    for count in BYTES:
        for decoder in DECODERS:
            found = outcomes(folder, count, files, decoder)
            cells = " | ".join(str(found[outcome]) for outcome in OUTCOMES)
            lines.append(f"| {count} | {decoder} | {cells} |")
    return "\n".join(lines)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        print(table(Path(name), int(sys.argv[1])))
