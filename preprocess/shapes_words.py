"""What the synthetic videos show, and the wordings that describe them."""

import itertools
from dataclasses import dataclass

import numpy as np
from made_up_words import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    SIZES,
    drawn_templates,
    one,
    with_articles,
)

# Each wording twice: "it moves", "it is moving".
MOTIONS = {
    "left": (("moves to the left", "moving to the left"), ("slides leftward", "sliding leftward")),
    "right": (
        ("moves to the right", "moving to the right"),
        ("slides rightward", "sliding rightward"),
    ),
    "up": (("moves up", "moving up"), ("rises to the top", "rising to the top")),
    "down": (("moves down", "moving down"), ("sinks to the bottom", "sinking to the bottom")),
    "diagonal": (
        ("moves diagonally", "moving diagonally"),
        ("drifts from corner to corner", "drifting from corner to corner"),
    ),
    "orbit": (
        ("goes around in a loop", "going around in a loop"),
        ("revolves", "revolving"),
    ),
    "bounce": (("bounces", "bouncing"), ("hops on the spot", "hopping on the spot")),
    "grow": (("grows", "growing"), ("gets bigger", "getting bigger")),
    "shrink": (("shrinks", "shrinking"), ("gets smaller", "getting smaller")),
    "still": (("stays still", "staying still"), ("does not move", "resting without motion")),
}
EXTRAS = ("with a grey bar in the corner", "next to a grey bar")

# {thing}: size, colour and shape; {does}: "moves up"; {doing}: "moving up".
TRAIN_TEMPLATES = (
    "a {thing} {does} over a {ground} background",
    "a {thing} is {doing} on a {ground} background",
    "on a {ground} backdrop, a {thing} {does}",
    "there is a {thing} {doing} in front of a {ground} backdrop",
    "the {thing} {does} while the background is {ground}",
    "a video of a {thing} {doing} over a {ground} scene",
    "a {shape} that is {colour} {does} on a {ground} scene",
    "we see a {ground} background and a {thing} {doing}",
    "the scene is {ground} and a {thing} {does}",
    "a {thing} {does}",
    "a {shape} {doing} on a {ground} backdrop",
)
TEST_TEMPLATES = (
    "there is a {ground} background and the {thing} {does}",
    "we see the {thing} {doing} while the scene is {ground}",
    "a video of a {ground} backdrop and a {thing} that is {doing}",
    "the {shape} is {colour} and {does} in front of a {ground} background",
    "over a {ground} scene, the {thing} is {doing}",
    "the backdrop is {ground} and there is a {thing} {doing}",
)


@dataclass(frozen=True)
class Clip:
    """What one video shows; `extra` adds a grey bar that stands in a corner."""

    shape: str
    colour: str
    motion: str
    background: str
    size: str
    extra: bool

    @property
    def combination(self) -> tuple[str, str, str, str]:
        """The attributes by which train and test videos differ."""
        return self.shape, self.colour, self.motion, self.background


def caption(clip: Clip, template: str, rng: np.random.Generator) -> str:
    """Fill one template for a clip, with words drawn from `rng`."""
    colour, shape = one(rng, COLOURS[clip.colour]), one(rng, SHAPES[clip.shape])
    does, doing = one(rng, MOTIONS[clip.motion])
    # What grows or shrinks has no one size to name.
    sized = clip.motion not in ("grow", "shrink") and rng.random() < 0.5
    thing = f"{one(rng, SIZES[clip.size])} {colour} {shape}" if sized else f"{colour} {shape}"
    text = template.format(
        thing=thing,
        shape=shape,
        colour=colour,
        does=does,
        doing=doing,
        ground=one(rng, BACKGROUNDS[clip.background]),
    )
    if clip.extra and rng.random() < 0.5:
        text = f"{text} {one(rng, EXTRAS)}"
    return with_articles(text)


def captions(
    clip: Clip, templates: tuple[str, ...], count: int, rng: np.random.Generator
) -> list[str]:
    """Return `count` captions; no template comes again before all of them were used."""
    return [caption(clip, text, rng) for text in drawn_templates(templates, count, rng)]


def combination_count() -> int:
    """Return how many combinations of the four attributes there are."""
    return len(SHAPES) * len(COLOURS) * len(MOTIONS) * len(BACKGROUNDS)


def least_train() -> int:
    """Return how few train videos can show every value of every attribute."""
    return max(len(SHAPES), len(COLOURS), len(MOTIONS), len(BACKGROUNDS))


def draw_clips(train: int, test: int, seed: int) -> tuple[list[Clip], list[Clip]]:
    """Draw the train and the test clips.

    No test combination occurs twice or in train; each attribute's every value occurs in train.
    """
    assert train >= least_train()
    assert test <= combination_count() - least_train()
    rng = np.random.default_rng([seed, 0])
    attributes = [list(values) for values in (SHAPES, COLOURS, MOTIONS, BACKGROUNDS)]
    orders = [rng.permutation(values).tolist() for values in attributes]
    cover = [tuple(order[k % len(order)] for order in orders) for k in range(least_train())]
    covered = set(cover)
    others = [combo for combo in itertools.product(*attributes) if combo not in covered]
    others = [others[index] for index in rng.permutation(len(others))]
    held_out, rest = others[:test], cover + others[test:]
    chosen = [rest[k % len(rest)] for k in range(train)]

    def clip(combo: tuple[str, ...]) -> Clip:
        size = list(SIZES)[int(rng.integers(len(SIZES)))]
        shape, colour, motion, background = combo
        return Clip(shape, colour, motion, background, size, extra=bool(rng.random() < 0.3))

    return [clip(combo) for combo in chosen], [clip(combo) for combo in held_out]
