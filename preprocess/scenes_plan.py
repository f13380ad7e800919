"""Which scenes there are: the splits of make_scenes.py, and the pairs of videos in them.

The kinds of pairs, by what the two videos of a pair differ in:

* "order": which motion comes first. The frames are the same, and so are the words for them.
* "named": one thing that captions name. The colour (two actors exchange theirs), the shape, a
  motion, or the background, which all captions of these two then name.
* "unnamed": only what no caption of the two names, which are the distractors, the places, the
  lengths and the background. They are each other's false negatives, and only in training.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from made_up_words import BACKGROUNDS, COLOURS, SHAPES, SIZES, one
from scenes_words import MOTIONS, Clip, Event, Thing

# Per cent of a split's videos that are in such a pair; chosen before anything was trained
TRAIN_PAIRS = {"order": 40, "unnamed": 30, "named": 20}
TEST_PAIRS = {"order": 40, "named": 20}
SECONDS = (2, 3, 4)  # of each of the two motions
GROUND_SHARE = 0.5  # of the captions name the background
LEAST_TRAIN = 16  # videos: with their pairs, 10 draws from each deck, of which none has over 8


def story_count() -> int:
    """Return how many stories there are, two that differ in their order counted as one."""
    looks, motions = len(SHAPES) * len(COLOURS), len(MOTIONS)
    one_actor = looks * motions * (motions - 1) // 2
    return one_actor + looks * (looks - 1) // 2 * motions**2


def _deck(values: Sequence, rng: np.random.Generator) -> Iterator:
    """Yield values at random for ever, all of them before one comes again."""
    while True:
        yield from (values[index] for index in rng.permutation(len(values)))


class _Drawing:
    """Draws clips whose stories are new, whatever their order.

    The first actor, its motion and the background come from decks, so that all values of each
    come up soon; the rest is drawn freely.
    """

    def __init__(self, rng: np.random.Generator, used: set[frozenset]) -> None:
        self.rng, self.used = rng, used
        self.shapes, self.colours = _deck([*SHAPES], rng), _deck([*COLOURS], rng)
        self.motions, self.backgrounds = _deck([*MOTIONS], rng), _deck([*BACKGROUNDS], rng)
        self.changes = _deck(("colour", "shape", "motion", "background"), rng)

    def pick(self, values: Iterable) -> Any:
        return one(self.rng, tuple(values))

    def thing(self) -> Thing:
        return Thing(self.pick(SHAPES), self.pick(COLOURS), self.pick(SIZES))

    def takes(self, events: tuple[Event, Event]) -> bool:
        """Return whether the events make a new story; if so, it is new no more."""
        first, second = events
        family = frozenset((*event.thing.look, event.motion) for event in events)
        alike = first.thing != second.thing and first.thing.look == second.thing.look
        if alike or len(family) < 2 or family in self.used:
            return False
        self.used.add(family)
        return True

    def events(self) -> tuple[Event, Event]:
        """Draw a new story of one actor or two."""
        thing = Thing(next(self.shapes), next(self.colours), self.pick(SIZES))
        first = Event(thing, next(self.motions), self.pick(SECONDS))
        while True:
            actor = self.pick((thing, self.thing()))
            events = first, Event(actor, self.pick(MOTIONS), self.pick(SECONDS))
            if self.takes(events):
                return self.pick((events, events[::-1]))

    def changed(self, events: tuple[Event, Event], what: str) -> tuple[Event, Event]:
        """Change a colour, a shape or a motion; with two actors, colours are exchanged."""
        first, second = events
        if what == "motion":
            return first, replace(second, motion=self.pick(MOTIONS))
        if first.thing == second.thing:
            value = self.pick(COLOURS if what == "colour" else SHAPES)
            thing = replace(first.thing, **{what: value})
            return replace(first, thing=thing), replace(second, thing=thing)
        if what == "shape":
            return replace(first, thing=replace(first.thing, shape=self.pick(SHAPES))), second
        colours = second.thing.colour, first.thing.colour
        swapped = [
            replace(event, thing=replace(event.thing, colour=colour))
            for event, colour in zip(events, colours, strict=True)
        ]
        return swapped[0], swapped[1]

    def clip(self, events: tuple[Event, Event], background: str, scene: int) -> Clip:
        """Add things that stand still, none of which looks like an actor, up to two or three."""
        looks = {event.thing.look for event in events}
        distractors: list[Thing] = []
        for _ in range(self.pick((2, 3)) - len(looks)):
            thing = next(thing for thing in iter(self.thing, None) if thing.look not in looks)
            looks.add(thing.look)
            distractors.append(thing)
        return Clip(events, background, tuple(distractors), scene, GROUND_SHARE)

    def partner(self, clip: Clip, kind: str, scene: int) -> tuple[Clip, Clip]:
        """Return the clip and its partner; see the top of this file."""
        if kind == "order":
            return clip, replace(clip, events=clip.events[::-1])
        if kind == "unnamed":
            first, second = (replace(e, seconds=self.pick(SECONDS)) for e in clip.events)
            other = self.clip((first, second), self.pick(BACKGROUNDS), scene)
            return replace(clip, ground_share=0.0), replace(other, ground_share=0.0)
        assert kind == "named", kind
        while True:
            what = next(self.changes)
            if what == "background":
                background = self.pick(other for other in BACKGROUNDS if other != clip.background)
                other = self.clip(clip.events, background, scene)
                return replace(clip, ground_share=1.0), replace(other, ground_share=1.0)
            events = self.changed(clip.events, what)
            if self.takes(events):
                return clip, self.clip(events, clip.background, scene)


def _draw_split(
    videos: int, start: int, pairs: dict[str, int], used: set[frozenset], rng: np.random.Generator
) -> list[Clip]:
    """Draw the clips of videos `start` and following, pairs side by side."""
    kinds = [kind for kind, per_cent in pairs.items() for _ in range(videos * per_cent // 200)]
    kinds += ["none"] * (videos - 2 * len(kinds))
    drawing = _Drawing(rng, used)
    clips: list[Clip] = []
    for index in rng.permutation(len(kinds)):
        kind, number = kinds[index], start + len(clips)
        clip = drawing.clip(drawing.events(), next(drawing.backgrounds), number)
        if kind == "none":
            clips.append(clip)
            continue
        clip, other = drawing.partner(clip, kind, number + 1)
        clips.append(replace(clip, pair=kind, partner=number + 1))
        clips.append(replace(other, pair=kind, partner=number))
    return clips


def draw_clips(train: int, test: int, seed: int) -> tuple[list[Clip], list[Clip]]:
    """Draw the train and the test clips, which are numbered from 0 on, the test after the train.

    No story of a test clip, in whatever order, is told in training; none of two test clips that
    are no pair is the same.
    """
    assert train >= LEAST_TRAIN
    assert train + test <= story_count()
    rng = np.random.default_rng([seed, 0])
    used: set[frozenset] = set()
    seen = _draw_split(train, 0, TRAIN_PAIRS, used, rng)
    return seen, _draw_split(test, train, TEST_PAIRS, used, rng)


def tell_apart(clips: list[Clip], names_ground: list[bool]) -> bool:
    """Return whether each clip is the only one with its story, and background if that is named."""
    stories = Counter(clip.story for clip in clips)
    scenes = Counter((clip.story, clip.background) for clip in clips)
    return all(
        (scenes[clip.story, clip.background] if named else stories[clip.story]) == 1
        for clip, named in zip(clips, names_ground, strict=True)
    )
