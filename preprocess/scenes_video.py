"""Draw the frames of one scene: where its things are, and how the actors leave and come back.

Shapes: K layouts that are tried, N things; x, y and radii in pixels.
"""

from collections.abc import Iterator

import numpy as np
from made_up_drawing import FPS, HEIGHT, SIDE, WIDTH, Image, background, draw_shape
from numpy.typing import NDArray
from scenes_words import Clip, Thing

# At the 96 pixels of the small encoder, whose crop is 256 pixels here, a small thing is 22 pixels
# across and a trip is 28 long.
RADIUS = {"small": 30.0, "large": 42.0}
TRIP = 76.0  # pixels
GROWN, SHRUNK = 1.5, 0.6
REST, RAMP, END = 0.1, 0.15, 0.95  # of a motion's time: it starts, gets there, is back
REACH = 1.1  # the farthest point of any shape along an axis, in radii
GAP = 3.0  # pixels between any two things
TRIES = 512

Array = NDArray[np.float64]


def away(phase: float) -> float:
    """Return how far out a motion is, 0 to 1, at `phase`, 0 to 1, of its time.

    It is out from 0.25 to 0.8 of its time, which is more than 1 s of its 2 s or more. The rest
    before it is for ffmpeg, which in a video of 3 frames a second shows what is up to 1/6 s later.
    """
    return min(1.0, max(0.0, min((phase - REST) / RAMP, (END - phase) / RAMP)))


def offset(motion: str, out: float) -> tuple[float, float, float]:
    """Return dx, dy (pixels, y down) and the factor of the radius of a thing that is `out`."""
    if motion == "vanish":
        return 0.0, 0.0, float(out < 0.5)
    return {
        "left": (-TRIP * out, 0.0, 1.0),
        "right": (TRIP * out, 0.0, 1.0),
        "up": (0.0, -TRIP * out, 1.0),
        "down": (0.0, TRIP * out, 1.0),
        "grow": (0.0, 0.0, 1.0 + (GROWN - 1.0) * out),
        "shrink": (0.0, 0.0, 1.0 + (SHRUNK - 1.0) * out),
    }[motion]


def _states(motions: list[str]) -> list[tuple[float, float, float]]:
    """Return where a thing with these motions may be at any time, and how large, as offsets."""
    return [(0.0, 0.0, 1.0)] + [offset(m, out) for m in motions for out in (0.25, 0.5, 0.75, 1.0)]


def draw_homes(radii_N: Array, motions: list[list[str]], rng: np.random.Generator) -> Array:
    """Draw TRIES layouts: homes (K, N, 2), from where no thing's motions leave the square crop."""
    low, high = [], []
    for radius, own in zip(radii_N, motions, strict=True):
        dx, dy, scale = np.transpose(_states(own))
        room = REACH * radius * scale + 2
        low.append((SIDE + (room - dx).max(), (room - dy).max()))
        high.append((WIDTH - SIDE - (room + dx).max(), HEIGHT - (room + dy).max()))
    assert (np.array(low) <= high).all(), "a thing and its motions must fit into the crop"
    return rng.uniform(low, high, size=(TRIES, len(radii_N), 2))


def gaps(homes_KN2: Array, radii_N: Array, motions: list[list[str]]) -> Array:
    """Return the smallest gap between any two things of each layout, at any time: (K,).

    Things are taken for discs, and only one moves at a time.
    """
    smallest_K = np.full(len(homes_KN2), np.inf)
    for mover, own in enumerate(motions):
        others = [index for index in range(len(motions)) if index != mover]
        for dx, dy, scale in _states(own):
            place_K12 = homes_KN2[:, [mover]] + (dx, dy)
            apart_KN = np.linalg.norm(homes_KN2[:, others] - place_K12, axis=-1)
            gaps_KN = apart_KN - radii_N[others] - radii_N[mover] * scale
            smallest_K = np.minimum(smallest_K, gaps_KN.min(axis=-1, initial=np.inf))
    return smallest_K


def choose_homes(homes_KN2: Array, gaps_K: Array) -> Array:
    """Return the first layout with room between all things, or else the widest one: (N, 2)."""
    roomy_K = gaps_K >= GAP
    return homes_KN2[np.argmax(roomy_K) if roomy_K.any() else np.argmax(gaps_K)]


def draw_radii(things: list[Thing], rng: np.random.Generator) -> Array:
    """Draw each thing's radius about that of its size: (N,)."""
    return np.array([RADIUS[thing.size] * rng.uniform(0.93, 1.07) for thing in things])


def cast(clip: Clip) -> tuple[list[Thing], list[list[str]]]:
    """Return the things of a clip with their motions, the same for either order of its events."""
    motions: dict[Thing, list[str]] = {thing: [] for thing in clip.distractors}
    for event in sorted(clip.events, key=lambda event: (event.thing.look, event.motion)):
        motions.setdefault(event.thing, []).append(event.motion)
    return list(motions), list(motions.values())


def draw_things(image: Image, things: list[Thing], centres_N2: Array, radii_N: Array) -> None:
    """Draw things into `image`, those without a radius excepted."""
    for thing, (x, y), radius in zip(things, centres_N2, radii_N, strict=True):
        if radius > 0:
            draw_shape(image, thing.shape, thing.colour, (x, y), radius)


def frames(clip: Clip, rng: np.random.Generator) -> Iterator[Image]:
    """Yield the BGR frames of a clip; what the clip leaves open is drawn from `rng`.

    As long as nothing moves, it is the same array that comes again.
    """
    ground = background(clip.background, rng)
    things, motions = cast(clip)
    radii_N = draw_radii(things, rng)
    homes_KN2 = draw_homes(radii_N, motions, rng)
    homes_N2 = choose_homes(homes_KN2, gaps(homes_KN2, radii_N, motions))
    last, image = None, ground
    for event in clip.events:
        mover, count = things.index(event.thing), event.seconds * FPS
        for index in range(count):
            state = offset(event.motion, away(index / count))
            if (mover, state) != last:
                last, image = (mover, state), ground.copy()
                dx, dy, scale = state
                centres_N2, now_N = homes_N2.copy(), radii_N.copy()
                centres_N2[mover] += (dx, dy)
                now_N[mover] *= scale
                draw_things(image, things, centres_N2, now_N)
            yield image
