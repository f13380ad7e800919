"""What the captions of make_scenes.py say, by a reader that does not know how they are made."""

import re
from dataclasses import dataclass

import open_clip
import pytest
from made_up_words import BACKGROUNDS, COLOURS, SHAPES, SIZES
from make_scenes import Plan, scenes, stills
from scenes_plan import draw_clips
from scenes_stills import SIDES, TEST_MORE, TEST_ONE, TRAIN_MORE, TRAIN_ONE, draw_stills
from scenes_words import (
    MOTIONS,
    TEST_ONE_ACTOR,
    TEST_TWO_ACTORS,
    TRAIN_ONE_ACTOR,
    TRAIN_TWO_ACTORS,
    Clip,
    Thing,
)

PLAN = Plan(train=1200, test=300, pretrain=3000, captions=5, seed=0)


def values_by_wording(words: dict[str, tuple]) -> dict[str, str]:
    found = {}
    for value, wordings in words.items():
        for item in wordings:
            for wording in (item,) if isinstance(item, str) else item:
                assert wording not in found, f"{wording} must stand for one value"
                found[wording] = value
    return found


def any_of(values: dict[str, str]) -> str:
    return "|".join(sorted(map(re.escape, values), key=len, reverse=True))


SHAPE, COLOUR, SIZE = (values_by_wording(words) for words in (SHAPES, COLOURS, SIZES))
GROUND, MOTION, SIDE = (values_by_wording(words) for words in (BACKGROUNDS, MOTIONS, SIDES))
# What is left of or above another is named first, or last
FORWARD = {"to the left of": "left", "left of": "left", "above": "above", "higher than": "above"}
BACKWARD = {"to the right of": "left", "right of": "left", "below": "above", "lower than": "above"}
THING = re.compile(rf"\b(?:({any_of(SIZE)}) )?({any_of(COLOUR)}) ({any_of(SHAPE)})\b")
SCENERY = re.compile(
    rf" (?:over|on|in front of) an? ({any_of(GROUND)}) (?:background|backdrop|scene)$"
)


@dataclass
class Reading:
    """What a caption says: things in the order in which it names them, motions in that of time."""

    things: list[tuple[str, str]]
    sizes: dict[tuple[str, str], str]
    motions: list[tuple[tuple[str, str] | None, str]]
    background: str | None


def read(caption: str) -> Reading:
    scenery = SCENERY.search(caption)
    text = caption[: scenery.start()] if scenery else caption
    named = [(m.start(), (SHAPE[m[3]], COLOUR[m[2]]), m[1]) for m in THING.finditer(text)]
    motions = []
    for match in re.finditer(rf"\b({any_of(MOTION)})\b", text):
        earlier = [look for start, look, _ in named if start < match.start()]
        doer = earlier[-1] if earlier else (named[0][1] if named else None)
        motions.append((doer, MOTION[match[1]]))
    in_between = text[1:]  # a first word is "after" where what happens first is named first
    backwards = re.search(r"\bafter (?!that\b)|\bbut first\b", in_between)
    if backwards or text.startswith("before "):
        motions.reverse()
    sizes = {look: SIZE[size] for _, look, size in named if size}
    looks = [look for _, look, _ in named]
    return Reading(looks, sizes, motions, GROUND[scenery[1]] if scenery else None)


@pytest.fixture(scope="module")
def full() -> list[tuple[Clip, list[str]]]:
    """The default set's clips with their captions."""
    train, test = draw_clips(PLAN.train, PLAN.test, PLAN.seed)
    videos = scenes(PLAN).videos
    assert [video.is_train for video in videos] == [True] * 1200 + [False] * 300
    return [(clip, v.captions) for clip, v in zip(train + test, videos, strict=True)]


def told(reading: Reading) -> tuple[tuple[str, str, str], ...]:
    return tuple((*doer, motion) for doer, motion in reading.motions)


def test_every_test_caption_fits_one_test_video_only(full):
    test = full[1200:]
    for index, (_, captions) in enumerate(test):
        for caption in captions:
            reading = read(caption)
            fitting = [
                k
                for k, (clip, _) in enumerate(test)
                if told(reading) == clip.story and reading.background in (None, clip.background)
            ]
            assert fitting == [index], caption


def test_captions_do_not_lie(full):
    for clip, captions in full:
        things = {event.thing.look: event.thing for event in clip.events}
        for caption in captions:
            reading = read(caption)
            assert set(reading.things) <= set(things), caption
            assert all(things[look].size == size for look, size in reading.sizes.items()), caption
            assert reading.background in (None, clip.background), caption
            rest = iter(clip.story)
            for doer, motion in reading.motions:
                told = (m for m in rest if m[2] == motion and doer in (None, m[:2]))
                assert next(told, None) is not None, caption


def test_captions_leave_things_out_but_no_test_caption_leaves_out_a_motion(full):
    train = [read(caption) for clip, texts in full[:1200] for caption in texts]
    test = [read(caption) for clip, texts in full[1200:] for caption in texts]
    assert 0.3 < sum(r.background is not None for r in train) / len(train) < 0.6
    assert 0.4 < sum(r.background is not None for r in test) / len(test) < 0.8
    assert 0.1 < sum(len(r.motions) == 1 for r in train) / len(train) < 0.2
    assert 0.05 < sum(not r.things for r in train) / len(train) < 0.15
    assert {len(r.motions) for r in test} == {2}
    assert all(r.things for r in test)


def test_near_duplicates_are_told_alike_and_the_background_is_named_where_it_alone_differs(full):
    kinds = {"unnamed": 0, "background": 0}
    for clip, captions in full:
        named = {read(caption).background for caption in captions}
        if clip.pair == "unnamed":
            assert named == {None}
            kinds["unnamed"] += 1
        elif clip.pair == "named" and full[clip.partner][0].story == clip.story:
            assert named == {clip.background}
            kinds["background"] += 1
    assert kinds["unnamed"] == 360
    assert kinds["background"] >= 40


@pytest.mark.parametrize(
    ("train", "test", "make"),
    [
        (TRAIN_ONE_ACTOR + TRAIN_TWO_ACTORS, TEST_ONE_ACTOR + TEST_TWO_ACTORS, scenes),
        (TRAIN_ONE + TRAIN_MORE, TEST_ONE + TEST_MORE, stills),
    ],
)
def test_test_captions_have_new_wordings_of_known_words(train, test, make):
    assert not set(train) & set(test)
    texts: dict[bool, set[str]] = {True: set(), False: set()}
    tokens = open_clip.SimpleTokenizer()
    for video in make(PLAN).videos:
        assert len(set(video.captions)) == 5
        texts[video.is_train] |= set(video.captions)
    assert not texts[True] & texts[False]
    words = {split: set(re.findall(r"\w+", " ".join(said))) for split, said in texts.items()}
    assert words[False] <= words[True]
    # with start and end, so that --max_words 40 cuts none
    assert max(len(tokens.encode(text)) + 2 for said in texts.values() for text in said) <= 40


def test_stills_are_told_truly_without_motions_and_test_stills_are_new():
    train, test = draw_stills(PLAN.pretrain, PLAN.seed)
    assert (len(train), len(test)) == (3000, 200)
    held_out = {still.combination for still in test}
    assert len(held_out) == 200
    assert not held_out & {still.combination for still in train}
    videos = stills(PLAN).videos
    for still, video in zip(train + test, videos, strict=True):
        looks = [thing.look for thing in still.things]
        for caption in video.captions:
            reading = read(caption)
            assert not reading.motions
            assert set(reading.things) <= set(looks), caption
            assert reading.background in (None, still.background), caption
            assert video.is_train or reading.background, caption
            assert video.is_train or set(reading.things) == set(looks), caption
            said = place_said(caption, looks)
            assert said == still.where or (said is None and "a picture of " in caption), caption


def place_said(caption: str, looks: list[tuple[str, str]]) -> str | None:
    """Return the side, or how the first thing is to the second, if the caption says it."""
    if len(looks) == 1:
        side = re.search(rf"\b({any_of(SIDE)})\b", caption)
        return SIDE[side[1]] if side else None
    named = [SHAPE[word] for word in re.findall(rf"\b({any_of(SHAPE)})\b", caption)]
    for words, order in ((FORWARD, looks[:2]), (BACKWARD, looks[1::-1])):
        found = re.search(rf"\b({any_of(words)})\b", caption)
        if found:
            assert named[:2] == [shape for shape, _ in order], caption
            return words[found[1]]
    return None


def test_sizes_are_named_only_where_they_stay(full):
    for clip, captions in full:
        resized: set[Thing] = {e.thing for e in clip.events if e.motion in ("grow", "shrink")}
        for caption in captions:
            assert not {thing.look for thing in resized} & set(read(caption).sizes), caption
