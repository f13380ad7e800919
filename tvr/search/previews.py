"""The small looping picture that stands for a video.

Shapes: F frames, H height, W width, C = 3 channels.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

MOST_FRAMES = 8
MOST_PIXELS = (160, 284)  # width, height: also of a phone's upright video
FRAME_MS = 400


def preview(frames_FHWC: np.ndarray) -> bytes:
    """An animated WebP of at most 8 of the frames, 160 pixels wide, that repeats for ever."""
    last = len(frames_FHWC) - 1
    chosen = np.linspace(0, last, min(len(frames_FHWC), MOST_FRAMES)).astype(int)
    pictures = [Image.fromarray(frames_FHWC[i]) for i in chosen]
    for picture in pictures:
        picture.thumbnail(MOST_PIXELS)
    file = io.BytesIO()
    pictures[0].save(
        file,
        "WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=FRAME_MS,
        loop=0,
        quality=60,
    )
    return file.getvalue()
