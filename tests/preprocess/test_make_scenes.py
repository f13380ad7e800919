"""make_scenes.py: which videos there are, the command, and what its captions say."""

import json
from collections import Counter

import numpy as np
import pytest
from made_up_set import annotation_texts
from made_up_words import BACKGROUNDS, COLOURS, SHAPES
from make_scenes import Plan, stills
from make_scenes import scenes as scenes_part
from media_helpers import (
    SMALL_SCENES,
    assert_refused,
    content,
    files_under,
    read_video,
    run_script,
)
from scenes_plan import LEAST_TRAIN, draw_clips
from scenes_words import MOTIONS, Clip

from tvr.dataloaders.benchmarks import load_split

SCRIPT = "make_scenes.py"


@pytest.fixture(scope="module")
def full() -> list[Clip]:
    """The clips of the default set."""
    train, test = draw_clips(1200, 300, 0)
    return train + test


def family(clip: Clip) -> frozenset:
    return frozenset(clip.story)


def test_files_have_msrvtt_names_and_are_read_as_such(scenes):
    expected = {"scenes_manifest.json"}
    for folder, train, test in (("", 24, 15), ("pretrain/", 30, 2)):
        expected |= {f"{folder}videos/video{index}.mp4" for index in range(train + test)}
        names = ("MSRVTT_train.9k.csv", "MSRVTT_JSFUSION_test.csv", "MSRVTT_data.json")
        expected |= {f"{folder}anns/{name}" for name in names}
        anns, videos = scenes / folder / "anns", scenes / folder / "videos"
        for split, clips, captions in (("train", train, train * 3), ("test", test, test)):
            found = load_split("msrvtt", "9k", split, anns, videos, True)
            assert (len(found.clips), len(found.captions)) == (clips, captions)
        sentences = json.loads((anns / "MSRVTT_data.json").read_text())["sentences"]
        assert len(sentences) == 3 * (train + test)
    assert files_under(scenes) == expected


def test_same_flags_give_the_same_content_whatever_the_workers(scenes, tmp_path):
    done = run_script(SCRIPT, "--output", tmp_path, *SMALL_SCENES, "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert content(tmp_path) == content(scenes)


def test_another_seed_gives_other_content():
    plan = Plan(train=24, test=15, pretrain=30, captions=3, seed=0)
    other = Plan(train=24, test=15, pretrain=30, captions=3, seed=1)
    for part in (scenes_part, stills):
        ours, theirs = part(plan), part(other)
        texts, other_texts = annotation_texts(ours.videos), annotation_texts(theirs.videos)
        same = [name for name in texts if texts[name] == other_texts[name]]
        assert same == ["MSRVTT_train.9k.csv"]
        assert not np.array_equal(next(iter(ours.frames(0))), next(iter(theirs.frames(0))))


def test_complete_set_is_left_alone_and_missing_videos_come_back(scenes):
    before = {path: path.stat().st_mtime_ns for path in scenes.rglob("*") if path.is_file()}
    done = run_script(SCRIPT, "--output", scenes, *SMALL_SCENES)
    assert done.returncode == 0
    assert "complete already" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before
    lost = [scenes / "videos" / "video7.mp4", scenes / "pretrain" / "videos" / "video3.mp4"]
    frames = [read_video(path)[1] for path in lost]
    for path in lost:
        path.unlink()
    assert run_script(SCRIPT, "--output", scenes, *SMALL_SCENES).returncode == 0
    for path, expected in zip(lost, frames, strict=True):
        assert np.array_equal(read_video(path)[1], expected)
    kept = scenes / "videos" / "video8.mp4"
    assert kept.stat().st_mtime_ns == before[kept]


def test_what_cannot_be_done_is_refused(scenes, tmp_path):
    refused = run_script(SCRIPT, "--output", scenes, *SMALL_SCENES, "--seed", 5)
    assert_refused(refused, "--output", "--pretrain 30", "--seed 5", "empty it")
    (tmp_path / "videos").mkdir()
    mine = tmp_path / "videos" / "video0.mp4"
    mine.write_text("mine")
    assert_refused(run_script(SCRIPT, "--output", tmp_path, *SMALL_SCENES), "not empty")
    assert mine.read_text() == "mine"
    assert_refused(run_script(SCRIPT, "--output", mine, *SMALL_SCENES), "--output", str(mine))
    for flag, value in (("--train", 15), ("--test", 99999), ("--seed", -1), ("--pretrain", -1)):
        refused = run_script(SCRIPT, "--output", tmp_path / "x", flag, value)
        assert_refused(refused, flag, str(value))
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("train", "test", "seed"), [(1200, 300, 0), *((LEAST_TRAIN, 9, seed) for seed in range(40))]
)
def test_test_stories_are_new_and_train_videos_show_everything(train, test, seed):
    seen, held_out = draw_clips(train, test, seed)
    assert (len(seen), len(held_out)) == (train, test)
    assert not {family(clip) for clip in seen} & {family(clip) for clip in held_out}
    assert len({(clip.story, clip.background) for clip in held_out}) == test
    shown = [set(values) for values in zip(*(e for clip in seen for e in clip.story), strict=True)]
    assert shown == [set(SHAPES), set(COLOURS), set(MOTIONS)]
    assert {clip.background for clip in seen} == set(BACKGROUNDS)
    for clip in seen + held_out:
        looks = {(shape, colour) for shape, colour, _ in clip.story}
        clutter = [thing.look for thing in clip.distractors]
        assert len(looks) in (1, 2)
        assert len({*looks, *clutter}) == len(looks) + len(clutter) in (2, 3)


def test_the_kinds_of_pairs_have_their_shares_and_differ_as_they_should(full):
    clips = full
    for split, shares in (
        (clips[:1200], {"order": 480, "unnamed": 360, "named": 240, "none": 120}),
        (clips[1200:], {"order": 120, "named": 60, "none": 120}),
    ):
        assert Counter(clip.pair for clip in split) == shares
        families = Counter(family(clip) for clip in split)
        for clip in split:
            assert (clip.partner is None) == (clip.pair == "none")
            other = clip if clip.partner is None else clips[clip.partner]
            assert other in split
            background = clip.pair == "named" and other.background != clip.background
            shared = clip.pair in ("order", "unnamed") or background
            assert families[family(clip)] == (2 if shared else 1)
    for index, clip in enumerate(clips):
        if clip.partner is None:
            continue
        other = clips[clip.partner]
        assert other.partner == index
        if clip.pair == "order":
            assert other.events == clip.events[::-1] != clip.events
            kept = ("background", "distractors", "scene")
            assert all(getattr(other, name) == getattr(clip, name) for name in kept)
        elif clip.pair == "unnamed":
            assert other.story == clip.story
            assert [e.thing for e in other.events] == [e.thing for e in clip.events]
            assert other.scene != clip.scene
        else:
            assert clip.pair == "named"
            assert differing(clip, other) in ({"motion"}, {"shape"}, {"colour"}, {"background"})


def differing(clip: Clip, other: Clip) -> set[str]:
    """Return the names of the attributes in which two clips differ."""
    names = {"background"} if clip.background != other.background else set()
    for ours, theirs in zip(clip.story, other.story, strict=True):
        pairs = zip(("shape", "colour", "motion"), ours, theirs, strict=True)
        names |= {name for name, a, b in pairs if a != b}
    return names


def test_lengths_differ(full):
    lengths = Counter(clip.seconds for clip in full)
    assert sorted(lengths) == [4, 5, 6, 7, 8]
    assert min(lengths.values()) > 100
