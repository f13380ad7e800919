"""What the scenes of make_scenes.py are made of, and what their captions say."""

from dataclasses import dataclass

import numpy as np
from made_up_words import BACKGROUNDS, COLOURS, SHAPES, SIZES, drawn_templates, one, with_articles

# Every motion ends where it began: then a video shows the same frames in either order of its two
# motions, and only their order tells which came first. Each wording twice, as in shapes_words.
MOTIONS = {
    "left": (
        ("moves to the left and back", "moving to the left and back"),
        ("darts leftward and returns", "darting leftward and returning"),
    ),
    "right": (
        ("moves to the right and back", "moving to the right and back"),
        ("darts rightward and returns", "darting rightward and returning"),
    ),
    "up": (
        ("moves up and back", "moving up and back"),
        ("rises and returns", "rising and returning"),
    ),
    "down": (
        ("moves down and back", "moving down and back"),
        ("dips and returns", "dipping and returning"),
    ),
    "grow": (
        ("grows for a moment", "growing for a moment"),
        ("swells briefly", "swelling briefly"),
    ),
    "shrink": (
        ("shrinks for a moment", "shrinking for a moment"),
        ("gets smaller briefly", "getting smaller briefly"),
    ),
    "vanish": (
        ("vanishes for a moment", "vanishing for a moment"),
        ("disappears briefly", "disappearing briefly"),
    ),
}
RESIZING = ("grow", "shrink")  # what changes its size has no one size to name

# {one} does {does1} ("rises and returns") first, then {two} does {does2}; in a scene with one
# actor {one} does both. {doing1}: "rising and returning". {shape1}: {one} without its colour.
# The last three of the training sets leave something out.
TRAIN_ONE_ACTOR = (
    "a {one} first {does1} and then {does2}",
    "a {one} {does1}, after that it {does2}",
    "a {one} is {doing1} before it {does2}",
    "a {one} {does2} after it {does1}",
    "first the {one} {does1}, later it {does2}",
    "there is a {one} {doing1} and afterwards {doing2}",
    "a video of a {one} {doing1}, then {doing2}",
    "before {doing2}, the {one} {does1}",
    "after {doing1}, a {one} {does2}",
    "we see a {one} that {does2}, but first it {does1}",
    "a {shape1} {does1}, then it {does2}",
    "a {one} {does1}",
    "a {one} is {doing2} in the end",
)
TRAIN_TWO_ACTORS = (
    "first a {one} {does1} and then a {two} {does2}",
    "a {one} {does1}, after that a {two} {does2}",
    "a {one} is {doing1} before a {two} {does2}",
    "a {two} {does2} after a {one} {does1}",
    "first the {one} {does1}, later the {two} {does2}",
    "there is a {one} {doing1} and afterwards a {two} {doing2}",
    "a video of a {one} {doing1}, then a {two} {doing2}",
    "before the {two} {does2}, the {one} {does1}",
    "after a {one} {does1}, the {two} {does2}",
    "we see a {two} that {does2}, but first a {one} {does1}",
    "a {shape1} {does1}, then a {shape2} {does2}",
    "there is a {one} that {does1}, and a {two}",
    "a {two} is {doing2} in the end",
)
TEST_ONE_ACTOR = (
    "the {one} {does1} first, and after that it {does2}",
    "a video of the {one} {doing1} before {doing2}",
    "there is a {one} that first {does1} and afterwards {does2}",
    "the {one} {does2} after {doing1}",
    "a {one} is {doing1}, and later it is {doing2}",
    "before it {does2}, a {one} {does1}",
)
TEST_TWO_ACTORS = (
    "the {one} {does1} first, and after that the {two} {does2}",
    "a video of the {one} {doing1} before the {two} {does2}",
    "there is a {one} that first {does1}, and afterwards the {two} {does2}",
    "the {two} {does2} after the {one} {does1}",
    "a {one} is {doing1}, and later a {two} is {doing2}",
    "we see a {one} that {does1} before a {two} {does2}",
)
# What follows where a caption names the background
TRAIN_GROUNDS = (
    "over a {ground} background",
    "on a {ground} backdrop",
    "in front of a {ground} scene",
)
TEST_GROUNDS = (
    "on a {ground} background",
    "over a {ground} scene",
    "in front of a {ground} backdrop",
)


@dataclass(frozen=True)
class Thing:
    """An object: its look, which captions name, and its size, which they name at times."""

    shape: str
    colour: str
    size: str

    @property
    def look(self) -> tuple[str, str]:
        """Shape and colour."""
        return self.shape, self.colour


@dataclass(frozen=True)
class Event:
    """What an actor does, and how many seconds that takes."""

    thing: Thing
    motion: str
    seconds: int


@dataclass(frozen=True)
class Clip:
    """What one video shows.

    Clips with one `scene` number also share the places of their things and the finer look of the
    background. `ground_share` is the chance that a caption names the background. `pair` says how
    the clip goes with video `partner`: "order", "named", "unnamed" (see scenes_plan.py) or "none".
    """

    events: tuple[Event, Event]
    background: str
    distractors: tuple[Thing, ...]
    scene: int
    ground_share: float
    pair: str = "none"
    partner: int | None = None

    @property
    def story(self) -> tuple[tuple[str, str, str], ...]:
        """Who (shape and colour) does what, in order."""
        return tuple((*event.thing.look, event.motion) for event in self.events)

    @property
    def seconds(self) -> float:
        """The length."""
        return float(sum(event.seconds for event in self.events))


@dataclass(frozen=True)
class Caption:
    """A caption, and whether it names the background."""

    text: str
    names_ground: bool


def name_of(thing: Thing, sized: bool, rng: np.random.Generator) -> str:
    """Name a thing: "red star", or "little red star" if `sized`."""
    name = f"{one(rng, COLOURS[thing.colour])} {one(rng, SHAPES[thing.shape])}"
    return f"{one(rng, SIZES[thing.size])} {name}" if sized else name


def with_ground(
    text: str, background: str, grounds: tuple[str, ...], rng: np.random.Generator
) -> str:
    """Name the background at the end of a caption."""
    return f"{text} {one(rng, grounds).format(ground=one(rng, BACKGROUNDS[background]))}"


def caption(
    clip: Clip, template: str, grounds: tuple[str, ...], rng: np.random.Generator
) -> Caption:
    """Fill one template for a clip, with words drawn from `rng`."""
    first, second = clip.events
    motions: dict[Thing, list[str]] = {first.thing: [], second.thing: []}
    for event in clip.events:
        motions[event.thing].append(event.motion)
    names = {
        thing: name_of(thing, not set(RESIZING) & set(done) and rng.random() < 0.5, rng)
        for thing, done in motions.items()
    }
    (does1, doing1), (does2, doing2) = (one(rng, MOTIONS[event.motion]) for event in clip.events)
    text = template.format(
        one=names[first.thing],
        two=names[second.thing],
        shape1=one(rng, SHAPES[first.thing.shape]),
        shape2=one(rng, SHAPES[second.thing.shape]),
        does1=does1,
        doing1=doing1,
        does2=does2,
        doing2=doing2,
    )
    names_ground = bool(rng.random() < clip.ground_share)
    if names_ground:
        text = with_ground(text, clip.background, grounds, rng)
    return Caption(with_articles(text), names_ground)


def captions(clip: Clip, is_train: bool, count: int, rng: np.random.Generator) -> list[Caption]:
    """Return `count` captions; no template comes again before all of them were used."""
    one_actor = clip.events[0].thing == clip.events[1].thing
    templates: tuple[str, ...]
    grounds: tuple[str, ...]
    if is_train:
        templates, grounds = TRAIN_ONE_ACTOR if one_actor else TRAIN_TWO_ACTORS, TRAIN_GROUNDS
    else:
        templates, grounds = TEST_ONE_ACTOR if one_actor else TEST_TWO_ACTORS, TEST_GROUNDS
    return [caption(clip, text, grounds, rng) for text in drawn_templates(templates, count, rng)]
