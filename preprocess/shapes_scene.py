"""Draw the frames of one synthetic video."""

import math
from collections.abc import Iterator

import cv2
import numpy as np
from made_up_drawing import HEIGHT, OUTLINE, SIDE, WIDTH, Image, background, draw_shape
from shapes_words import Clip

_RADIUS = {"small": 44.0, "large": 66.0}  # pixels


def _add_bar(image: Image, rng: np.random.Generator) -> None:
    left = SIDE + 6 if rng.random() < 0.5 else WIDTH - SIDE - 26
    top = 10 if rng.random() < 0.5 else HEIGHT - 60
    corner = (left + 20, top + 50)
    cv2.rectangle(image, (left, top), corner, (128, 128, 128), -1)
    cv2.rectangle(image, (left, top), corner, OUTLINE, 2)


def _between(start: float, end: float, phase: float) -> float:
    return start + (end - start) * phase


def place(
    motion: str, phase: float, radius: float, at: tuple[float, float]
) -> tuple[float, float, float]:
    """Return the centre x, y and the radius, in pixels, at `phase` (0 start, 1 end) of a clip.

    `at`, each part 0 to 1, says where the clip's object is as far as its motion leaves it free.
    A third of the clip apart, which is 1 s of 3 s, every motion is clearly at another place.
    """
    across, down = SIDE + radius, 1.15 * radius
    left, right, top, bottom = across, WIDTH - across, down, HEIGHT - down
    x, y = _between(left, right, at[0]), _between(top, bottom, at[1])
    if motion == "left":
        x = _between(right, left, phase)
    elif motion == "right":
        x = _between(left, right, phase)
    elif motion == "up":
        y = _between(bottom, top, phase)
    elif motion == "down":
        y = _between(top, bottom, phase)
    elif motion == "diagonal":
        x, y = _between(left, right, phase), _between(top, bottom, phase)
    elif motion == "orbit":
        turn = 2 * math.pi * (phase + at[0])
        x = WIDTH / 2 + (WIDTH / 2 - across) * math.cos(turn)
        y = HEIGHT / 2 + (HEIGHT / 2 - down) * math.sin(turn)
    elif motion == "bounce":
        y = _between(bottom, top, abs(math.sin(1.5 * math.pi * phase)))
    elif motion in ("grow", "shrink"):
        x, y = WIDTH * _between(0.4, 0.6, at[0]), HEIGHT * _between(0.45, 0.55, at[1])
        radius = _between(14, 92, phase if motion == "grow" else 1 - phase)
    else:
        assert motion == "still", motion
    return x, y, radius


def frames(clip: Clip, count: int, rng: np.random.Generator) -> Iterator[Image]:
    """Yield `count` BGR frames of a clip; what the clip leaves open is drawn from `rng`."""
    scene = background(clip.background, rng)
    if clip.extra:
        _add_bar(scene, rng)
    at = (float(rng.uniform(0.1, 0.9)), float(rng.uniform(0.1, 0.9)))
    base = _RADIUS[clip.size] * float(rng.uniform(0.93, 1.07))
    for index in range(count):
        x, y, radius = place(clip.motion, index / max(count - 1, 1), base, at)
        image = scene.copy()
        draw_shape(image, clip.shape, clip.colour, (x, y), radius)
        yield image
