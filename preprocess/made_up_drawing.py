"""Drawing for the made-up data sets: the picture's size, colours, shapes and backgrounds."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT, FPS = 320, 256, 25  # pixels, pixels, frames per second
SIDE = (WIDTH - HEIGHT) // 2  # pixels that a square crop takes off at the left and at the right
_SHIFT = 4  # OpenCV's points in 1/16 pixel: slow motion stays smooth
BGR = {
    "red": (40, 40, 225),
    "green": (60, 200, 40),
    "blue": (225, 70, 30),
    "yellow": (40, 230, 245),
    "orange": (20, 130, 250),
    "purple": (170, 40, 130),
    "cyan": (230, 215, 40),
    "pink": (190, 140, 255),
}
OUTLINE = (20, 20, 20)

Image = NDArray[np.uint8]
Points = NDArray[np.float64]


def _regular(corners: int, radius: float = 1.0) -> Points:
    angles = -math.pi / 2 + np.arange(corners) * 2 * math.pi / corners
    return radius * np.stack((np.cos(angles), np.sin(angles)), axis=1)


def _star() -> Points:
    points = np.empty((10, 2))
    points[0::2] = 1.1 * _regular(5)
    points[1::2] = -0.45 * np.roll(_regular(5), 2, axis=0)
    return points


def _heart() -> Points:
    t = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    down = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack((16 * np.sin(t) ** 3, -down - 2), axis=1) / 16


def outline(shape: str) -> list[Points]:
    """Return a shape's closed outlines, within about 1 of the origin, y down; even-odd filled."""
    arm, reach = 0.34, 1.0
    cross = [(arm, arm), (reach, arm), (reach, -arm), (arm, -arm), (arm, -reach), (-arm, -reach)]
    cross += [(-x, -y) for x, y in cross]
    return {
        "circle": [_regular(40)],
        "square": [np.array([(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)])],
        "triangle": [1.1 * _regular(3)],
        "star": [_star()],
        "diamond": [np.array([(0.0, -1.1), (0.65, 0.0), (0.0, 1.1), (-0.65, 0.0)])],
        "cross": [np.array(cross)],
        "ring": [_regular(40), _regular(40, 0.55)],
        "heart": [_heart()],
    }[shape]


def background(kind: str, rng: np.random.Generator) -> Image:
    """Draw a background; its place and brightness vary with `rng`."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    cell = float(rng.integers(22, 34))  # pixels
    shift_x, shift_y = rng.uniform(0, cell, size=2)
    lift = rng.uniform(-8, 8)
    grey: NDArray[np.float64]
    if kind == "dark":
        grey = np.full((HEIGHT, WIDTH), 45.0)
    elif kind == "light":
        grey = np.full((HEIGHT, WIDTH), 220.0)
    elif kind == "striped":
        grey = np.where((x + y + shift_x) // cell % 2 == 0, 90.0, 190.0)
    elif kind == "checkered":
        grey = np.where(((x + shift_x) // cell + (y + shift_y) // cell) % 2 == 0, 80.0, 200.0)
    elif kind == "gradient":
        grey = 50 + 170 * x / WIDTH
    else:
        assert kind == "grass", kind
        coarse = rng.uniform(-35, 35, size=(HEIGHT // 4, WIDTH // 2)).astype(np.float32)
        blades = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
        tint = np.array([0.45, 1.0, 0.55])
        return np.clip((100 + lift + blades)[..., None] * tint, 0, 255).astype(np.uint8)
    lifted = np.clip(grey + lift, 0, 255).astype(np.uint8)
    return np.repeat(lifted[..., None], 3, axis=2)


def draw_shape(
    image: Image, shape: str, colour: str, centre: tuple[float, float], radius: float
) -> None:
    """Draw one outlined shape into `image`; `centre` (x, y) and `radius` are in pixels."""
    placed = [
        np.round((points * radius + centre) * (1 << _SHIFT)).astype(np.int32)
        for points in outline(shape)
    ]
    cv2.fillPoly(image, placed, BGR[colour], cv2.LINE_AA, _SHIFT)
    cv2.polylines(image, placed, True, OUTLINE, 2, cv2.LINE_AA, _SHIFT)
