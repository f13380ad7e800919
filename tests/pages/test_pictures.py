"""Previews of videos."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from tvr.pages.pictures import preview, still_of


def greys(count, size=(90, 160)):
    """Plain frames, each 20 levels lighter than the one before."""
    return np.stack([np.full((*size, 3), 10 + 20 * i, np.uint8) for i in range(count)])


@pytest.mark.parametrize(("given", "kept"), [(1, 1), (5, 5), (12, 8)])
def test_a_preview_loops_over_some_of_the_frames(given, kept):
    picture = Image.open(BytesIO(preview(greys(given))))
    assert (picture.n_frames, picture.size) == (kept, (160, 90))
    assert kept == 1 or picture.info["loop"] == 0
    picture.seek(kept - 1)
    last = 10 + 20 * (given - 1)
    assert abs(picture.convert("L").getpixel((80, 45)) - last) <= 3


def test_a_preview_may_be_smaller():
    picture = Image.open(BytesIO(preview(greys(9, (200, 100)), 4, (128, 128))))
    assert (picture.n_frames, picture.size) == (4, (64, 128))


def test_a_still_is_the_first_frame():
    still = Image.open(BytesIO(still_of(preview(greys(4)))))
    assert getattr(still, "n_frames", 1) == 1
    assert abs(still.convert("L").getpixel((80, 45)) - 10) <= 3
