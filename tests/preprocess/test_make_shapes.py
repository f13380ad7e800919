"""make_shapes.py: its annotations, and the videos it renders."""

import csv
import json
import re
from collections import Counter

import cv2
import numpy as np
import pytest
from ffmpeg_tools import find_ffmpeg
from made_up_set import encode
from make_shapes import Plan, annotations, drawn
from media_helpers import assert_refused, content, files_under, read_video, run_script
from shapes_scene import HEIGHT, WIDTH, place
from shapes_words import (
    BACKGROUNDS,
    COLOURS,
    MOTIONS,
    SHAPES,
    TEST_TEMPLATES,
    TRAIN_TEMPLATES,
    draw_clips,
)

SCRIPT = "make_shapes.py"
SMALL = ("--train", 12, "--test", 6, "--captions", 3)
ATTRIBUTES = ("shape", "colour", "motion", "background")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes") / "set"
    done = run_script(SCRIPT, "--output", folder, *SMALL, "--workers", 2)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def full():
    """The default data set's clips and annotations, without its videos."""
    plan = Plan(train=600, test=200, captions=5, seconds=3.0, seed=0)
    train, test = draw_clips(plan.train, plan.test, plan.seed)
    return train, test, annotations(plan, train, test)


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def test_files_have_msrvtt_names_and_formats(made):
    ids = [f"video{index}" for index in range(18)]
    assert files_under(made) == {f"videos/{name}.mp4" for name in ids} | {
        "anns/MSRVTT_train.9k.csv",
        "anns/MSRVTT_JSFUSION_test.csv",
        "anns/MSRVTT_data.json",
        "shapes_manifest.json",
    }
    train = (made / "anns" / "MSRVTT_train.9k.csv").read_text()
    assert train.splitlines() == ["video_id", *ids[:12]]
    test = (made / "anns" / "MSRVTT_JSFUSION_test.csv").read_text()
    assert test.splitlines()[0] == "key,vid_key,video_id,sentence"
    data = json.loads((made / "anns" / "MSRVTT_data.json").read_text())
    assert [video["video_id"] for video in data["videos"]] == ids
    assert [sentence["sen_id"] for sentence in data["sentences"]] == list(range(18 * 3))
    assert Counter(s["video_id"] for s in data["sentences"]) == dict.fromkeys(ids, 3)
    rows = read_csv(test)
    assert len(rows) == 6
    for index, row in enumerate(rows):
        assert row["key"] == f"ret{index}"
        assert row["vid_key"] == f"msr{12 + index}"
        assert row["video_id"] == ids[12 + index]
        own = [s["caption"] for s in data["sentences"] if s["video_id"] == row["video_id"]]
        assert row["sentence"] in own


def test_videos_are_3_s_at_25_fps_and_larger_than_224(made):
    for path in (made / "videos").iterdir():
        fps, frames = read_video(path)
        assert fps == pytest.approx(25)
        assert frames.shape[0] == 75
        assert min(frames.shape[1:3]) > 224


def test_same_flags_give_the_same_content_whatever_the_workers(made, tmp_path):
    done = run_script(SCRIPT, "--output", tmp_path / "again", *SMALL, "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "again") == content(made)
    done = run_script(SCRIPT, "--output", tmp_path / "other", *SMALL, "--seed", 1)
    assert done.returncode == 0, done.stderr
    ours, others = content(made), content(tmp_path / "other")
    assert [name for name in ours if ours[name] == others[name]] == ["anns/MSRVTT_train.9k.csv"]


def test_each_video_has_its_own_chance_by_seed_and_index(tmp_path):
    clip = draw_clips(10, 1, 0)[0][0]
    shown = []
    for seed, index in ((0, 0), (0, 1), (1, 0)):
        plan = Plan(train=10, test=1, captions=1, seconds=0.2, seed=seed)
        encode(drawn(clip, index, plan), find_ffmpeg(), tmp_path / "clip.mp4")
        shown.append(read_video(tmp_path / "clip.mp4")[1].tobytes())
    assert len(set(shown)) == 3


def test_complete_set_is_left_alone_and_a_missing_video_comes_back(made):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*") if path.is_file()}
    done = run_script(SCRIPT, "--output", made, *SMALL)
    assert done.returncode == 0
    assert "complete already" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before
    lost = made / "videos" / "video7.mp4"
    frames = read_video(lost)[1]
    lost.unlink()
    assert run_script(SCRIPT, "--output", made, *SMALL).returncode == 0
    assert np.array_equal(read_video(lost)[1], frames)
    kept = made / "videos" / "video8.mp4"
    assert kept.stat().st_mtime_ns == before[kept]


def test_other_flags_and_foreign_folders_are_refused(made, tmp_path):
    refused = run_script(SCRIPT, "--output", made, *SMALL, "--seed", 5)
    assert_refused(refused, "--output", "--seed 5", "empty it")
    (tmp_path / "videos").mkdir()
    mine = tmp_path / "videos" / "video0.mp4"
    mine.write_text("mine")
    assert_refused(run_script(SCRIPT, "--output", tmp_path, *SMALL), "not empty")
    assert mine.read_text() == "mine"
    assert_refused(run_script(SCRIPT, "--output", tmp_path / "x", "--train", 3), "--train 3")
    assert_refused(run_script(SCRIPT, "--output", tmp_path / "x", "--test", 9999), "--test 9999")
    assert_refused(run_script(SCRIPT, "--output", tmp_path / "x", "--seed", -1), "--seed -1")
    assert_refused(run_script(SCRIPT, "--output", mine, *SMALL), "--output", str(mine))


@pytest.mark.parametrize(("train", "test", "seed"), [(600, 200, 0), (10, 3, 4), (12, 3830, 2)])
def test_test_combinations_are_new_and_distinct(train, test, seed):
    seen, held_out = draw_clips(train, test, seed)
    assert (len(seen), len(held_out)) == (train, test)
    combinations = [clip.combination for clip in held_out]
    assert len(set(combinations)) == test
    assert not set(combinations) & {clip.combination for clip in seen}
    for name, values in zip(ATTRIBUTES, (SHAPES, COLOURS, MOTIONS, BACKGROUNDS), strict=True):
        assert {getattr(clip, name) for clip in seen} == set(values)


def template_patterns(templates: tuple[str, ...]) -> list[re.Pattern[str]]:
    return [
        re.compile(re.sub(r"\\{\w+\\}", "(.+)", re.escape(text)).replace(r"a\ (", r"an?\ ("))
        for text in templates
    ]


def test_test_captions_have_new_wordings_of_known_words(full):
    train, _, files = full
    assert not set(TRAIN_TEMPLATES) & set(TEST_TEMPLATES)
    sentences = json.loads(files["MSRVTT_data.json"])["sentences"]
    first = {False: set(), True: set()}
    words = {False: set(), True: set()}
    for sentence in sentences:
        is_test = int(sentence["video_id"].removeprefix("video")) >= len(train)
        own = TEST_TEMPLATES if is_test else TRAIN_TEMPLATES
        assert any(p.match(sentence["caption"]) for p in template_patterns(own)), sentence
        first[is_test].add(sentence["caption"])
        words[is_test].update(re.findall(r"\w+", sentence["caption"]))
    assert not first[True] & first[False]
    assert words[True] <= words[False]


def named(caption: str, words: dict[str, tuple]) -> set[str]:
    """Return the values of one attribute that a caption names."""
    found = set()
    for value, wordings in words.items():
        flat = [
            w for wording in wordings for w in ([wording] if isinstance(wording, str) else wording)
        ]
        if any(re.search(rf"\b{wording}\b", caption) for wording in flat):
            found.add(value)
    return found


def test_every_test_caption_tells_its_video_and_train_captions_do_not_lie(full):
    train, test, files = full
    groups = (SHAPES, COLOURS, MOTIONS, BACKGROUNDS)
    for sentence in json.loads(files["MSRVTT_data.json"])["sentences"]:
        index = int(sentence["video_id"].removeprefix("video"))
        clip = (train + test)[index]
        for value, words in zip(clip.combination, groups, strict=True):
            found = named(sentence["caption"], words)
            assert found == {value} or (index < len(train) and not found), sentence


def test_captions_of_a_video_differ(full):
    sentences = json.loads(full[2]["MSRVTT_data.json"])["sentences"]
    by_video: dict[str, set[str]] = {}
    for sentence in sentences:
        by_video.setdefault(sentence["video_id"], set()).add(sentence["caption"])
    assert {len(texts) for texts in by_video.values()} == {5}


def test_motions_differ_when_seen_once_a_second():
    for at in ((0.1, 0.1), (0.5, 0.5), (0.9, 0.3)):
        paths = {}
        for motion in MOTIONS:
            path = np.array([place(motion, second / 3, 40.0, at) for second in range(3)])
            assert (path[:, 0] > 0).all()
            assert (path[:, 0] < WIDTH).all()
            assert (path[:, 1] > 0).all()
            assert (path[:, 1] < HEIGHT).all()
            paths[motion] = path - path[0]
        for one in MOTIONS:
            for other in MOTIONS:
                apart = np.abs(paths[one] - paths[other]).max()
                assert one == other or apart > 30, (one, other)


def test_videos_show_what_the_annotations_say(made):
    """Pixels of the shape's hue are there at 0, 1 and 2 s, and go where its motion goes."""
    hues = {"red": 0, "orange": 12, "yellow": 28, "green": 56, "cyan": 93, "blue": 115}
    hues |= {"purple": 146, "pink": 166}
    videos = json.loads((made / "anns" / "MSRVTT_data.json").read_text())["videos"]
    for video in videos:
        shown = video["shown"]
        _, frames = read_video(made / "videos" / f"{video['video_id']}.mp4")
        spots = []
        for frame in frames[[0, 25, 50]]:
            hsv = cv2.cvtColor(frame, cv2.COLOR_BGR2HSV).astype(int)
            away = np.abs(hsv[..., 0] - hues[shown["colour"]])
            near = np.minimum(away, 180 - away) < 9
            mask = near & (hsv[..., 1] > 80) & (hsv[..., 2] > 110)
            y, x = np.nonzero(mask)
            assert len(x) > 60, (video, "its colour is not to be seen")
            spots.append((np.median(x), np.median(y), np.sqrt(len(x))))
        dx, dy, growth = np.array(spots[2]) - np.array(spots[0])
        seen = {
            "left": dx < -60,
            "right": dx > 60,
            "up": dy < -60,
            "down": dy > 60,
            "diagonal": dx > 60 and dy > 60,
            "orbit": np.ptp([x for x, _, _ in spots]) > 60
            and np.ptp([y for _, y, _ in spots]) > 60,
            "bounce": spots[1][1] - spots[0][1] < -60 and abs(dy) < 20,
            "grow": growth > 30,
            "shrink": growth < -30,
            "still": abs(dx) < 3 and abs(dy) < 3 and abs(growth) < 3,
        }
        assert seen[shown["motion"]], (video, spots)
