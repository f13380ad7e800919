"""The small looping picture that stands for a video, its first frame, and both as addresses.

Shapes: F frames, H height, W width, C = 3 channels.
"""

from __future__ import annotations

import io
from base64 import b64encode

import numpy as np
from PIL import Image

MOST_FRAMES = 8
MOST_PIXELS = (160, 284)  # width, height: also of a phone's upright video
FRAME_MS = 400


def preview(
    frames_FHWC: np.ndarray,
    most_frames: int = MOST_FRAMES,
    most_pixels: tuple[int, int] = MOST_PIXELS,
) -> bytes:
    """An animated WebP of at most 8 of the frames, 160 pixels wide, that repeats for ever."""
    last = len(frames_FHWC) - 1
    chosen = np.linspace(0, last, min(len(frames_FHWC), most_frames)).astype(int)
    pictures = [Image.fromarray(frames_FHWC[i]) for i in chosen]
    for picture in pictures:
        picture.thumbnail(most_pixels)
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


def still_of(preview: bytes) -> bytes:
    """The first frame of an animated WebP, as a WebP."""
    still = io.BytesIO()
    with Image.open(io.BytesIO(preview)) as image:
        image.convert("RGB").save(still, "WEBP", quality=80)
    return still.getvalue()


def data_address(picture: bytes, kind: str = "image/webp") -> str:
    """The picture itself as an address."""
    return f"data:{kind};base64,{b64encode(picture).decode('ascii')}"
