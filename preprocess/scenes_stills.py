"""The pretraining part of make_scenes.py: things at rest, and captions that say where they are.

Shapes: K layouts that are tried, N things; pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from made_up_drawing import FPS, HEIGHT, WIDTH, Image, background
from made_up_words import BACKGROUNDS, COLOURS, SHAPES, SIZES, drawn_templates, one, with_articles
from numpy.typing import NDArray
from scenes_video import Array, choose_homes, draw_homes, draw_radii, draw_things, gaps
from scenes_words import TEST_GROUNDS, TRAIN_GROUNDS, Thing, name_of, with_ground

SECONDS = 1.0
GROUND_SHARE = 0.5  # of the training captions name the background; all of the test captions do
THIRD_SHARE = 0.5  # of the training captions name a third thing; all of the test captions do
TEST_PART = 15  # one test still for so many training stills
ASIDE = 40.0  # pixels that one thing is off the picture's middle, or from the other, at least

# Where one thing is
SIDES = {
    "left": ("on the left", "at the left side"),
    "right": ("on the right", "at the right side"),
    "top": ("at the top", "in the upper part"),
    "bottom": ("at the bottom", "in the lower part"),
    "middle": ("in the middle", "in the centre"),
}
# How the first thing is to the second, and the second to the first
RELATIONS = {
    "left": (("to the left of", "left of"), ("to the right of", "right of")),
    "above": (("above", "higher than"), ("below", "lower than")),
}

TRAIN_ONE = (
    "a {one} {side}",
    "there is a {one} {side}",
    "{side} we see a {one}",
    "a picture of a {one}",
    "the {one} is {side}",
    "a {shape1} {side}",
)
TRAIN_MORE = (
    "a {one} {relation} a {two}",
    "a {two} {converse} a {one}",
    "there is a {one} {relation} the {two}",
    "we see the {two} {converse} the {one}",
    "a picture of a {one} and a {two}",
    "the {two} is {converse} the {one}",
    "a {shape1} {relation} a {shape2}",
)
TEST_ONE = (
    "we see the {one} {side}",
    "a picture of a {one} {side}",
    "there is the {one} {side}",
    "{side} there is a {one}",
    "a {one} is {side}",
)
TEST_MORE = (
    "we see a {one} {relation} a {two}",
    "the {one} is {relation} the {two}",
    "a picture of a {two} {converse} a {one}",
    "there is a {two} {converse} the {one}",
    "the {one} {relation} the {two}",
)


@dataclass(frozen=True)
class Still:
    """One to three things; `where` is one of SIDES for one, else a relation of the first two."""

    things: tuple[Thing, ...]
    where: str
    background: str

    @property
    def combination(self) -> tuple:
        """The attributes by which train and test stills differ."""
        return tuple(thing.look for thing in self.things[:2]), self.where, self.background


def _held_out_count(pretrain: int) -> int:
    """Return how many test stills there are for so many training stills."""
    return -(-pretrain // TEST_PART)


def _pick(values: dict, rng: np.random.Generator) -> str:
    return one(rng, tuple(values))


def _draw_still(rng: np.random.Generator) -> Still:
    things: list[Thing] = []
    count = int(rng.integers(1, 4))
    while len(things) < count:
        thing = Thing(_pick(SHAPES, rng), _pick(COLOURS, rng), _pick(SIZES, rng))
        if thing.look not in [other.look for other in things]:
            things.append(thing)
    where = _pick(SIDES if count == 1 else RELATIONS, rng)
    return Still(tuple(things), where, _pick(BACKGROUNDS, rng))


def draw_stills(pretrain: int, seed: int) -> tuple[list[Still], list[Still]]:
    """Draw the train and the test stills: no test combination occurs twice or in train."""
    rng = np.random.default_rng([seed, 3])
    held_out: dict[tuple, Still] = {}
    while len(held_out) < _held_out_count(pretrain):
        still = _draw_still(rng)
        held_out.setdefault(still.combination, still)
    seen: list[Still] = []
    while len(seen) < pretrain:
        still = _draw_still(rng)
        if still.combination not in held_out:
            seen.append(still)
    return seen, list(held_out.values())


def _caption(still: Still, template: str, is_train: bool, rng: np.random.Generator) -> str:
    names = [name_of(thing, rng.random() < 0.5, rng) for thing in still.things]
    shapes = [one(rng, SHAPES[thing.shape]) for thing in still.things]
    if len(names) == 1:
        side = one(rng, SIDES[still.where])
        text = template.format(one=names[0], shape1=shapes[0], side=side)
    else:
        relation, converse = (one(rng, words) for words in RELATIONS[still.where])
        text = template.format(
            one=names[0],
            two=names[1],
            shape1=shapes[0],
            shape2=shapes[1],
            relation=relation,
            converse=converse,
        )
    if len(names) == 3 and (not is_train or rng.random() < THIRD_SHARE):
        text = f"{text} and a {names[2]}"
    if not is_train or rng.random() < GROUND_SHARE:
        grounds = TRAIN_GROUNDS if is_train else TEST_GROUNDS
        text = with_ground(text, still.background, grounds, rng)
    return with_articles(text)


def still_captions(still: Still, is_train: bool, count: int, rng: np.random.Generator) -> list[str]:
    """Return `count` captions; no template comes again before all of them were used."""
    templates: tuple[str, ...]
    if len(still.things) == 1:
        templates = TRAIN_ONE if is_train else TEST_ONE
    else:
        templates = TRAIN_MORE if is_train else TEST_MORE
    return [_caption(still, t, is_train, rng) for t in drawn_templates(templates, count, rng)]


def _as_said(where: str, homes_KN2: Array) -> NDArray[np.bool_]:
    """Return which layouts are as `where` says: (K,)."""
    if homes_KN2.shape[1] == 1:
        x_K, y_K = (homes_KN2[:, 0] - (WIDTH / 2, HEIGHT / 2)).T
    else:
        x_K, y_K = (homes_KN2[:, 0] - homes_KN2[:, 1]).T
    across, down = np.abs(x_K), np.abs(y_K)
    if where == "middle":
        return np.maximum(across, down) < ASIDE / 2
    sideways = where in ("left", "right")
    towards_K = {"left": -x_K, "right": x_K, "top": -y_K, "above": -y_K, "bottom": y_K}[where]
    return (towards_K >= ASIDE) & (towards_K > (down if sideways else across))


def still_frames(still: Still, rng: np.random.Generator) -> Iterator[Image]:
    """Yield the frames, all of them the same array."""
    image = background(still.background, rng)
    things = list(still.things)
    radii_N = draw_radii(things, rng)
    none: list[list[str]] = [[] for _ in things]
    homes_KN2 = draw_homes(radii_N, none, rng)
    said_K = _as_said(still.where, homes_KN2)
    assert said_K.any(), still
    homes_KN2 = homes_KN2[said_K]
    homes_N2 = choose_homes(homes_KN2, gaps(homes_KN2, radii_N, none))
    draw_things(image, things, homes_N2, radii_N)
    for _ in range(round(SECONDS * FPS)):
        yield image
