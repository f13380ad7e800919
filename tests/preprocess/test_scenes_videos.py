"""What the videos of make_scenes.py show, compressed, once a second, as the small encoder sees it.

Shapes: F frames, H = W = 96 pixels.
"""

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from made_up_drawing import BGR
from make_scenes import Plan
from make_scenes import scenes as scenes_part
from media_helpers import read_video, run_script
from scenes_video import away

from tvr.dataloaders.frames import read_frames
from tvr.dataloaders.transforms import resize_and_crop

HUES = {  # OpenCV's, 0 to 179
    name: int(cv2.cvtColor(np.array([[bgr]], np.uint8), cv2.COLOR_BGR2HSV)[0, 0, 0])
    for name, bgr in BGR.items()
}
PIXEL = 96 / 256  # of the small encoder, per pixel of the rendered crop
TRIP = 76 * PIXEL


@pytest.fixture(scope="module")
def shown(scenes) -> list[dict]:
    """What the annotations say of each video."""
    data = json.loads((scenes / "anns" / "MSRVTT_data.json").read_text())
    return [video["shown"] for video in data["videos"]]


@pytest.fixture(scope="module")
def seen(scenes, tmp_path_factory) -> list[np.ndarray]:
    """Each video as frames (F, 96, 96, 3), RGB."""
    return as_seen(scenes / "videos", tmp_path_factory.mktemp("3fps"), 8)


def as_seen(videos: Path, compressed: Path, max_frames: int) -> list[np.ndarray]:
    done = run_script("compress_video.py", "--input_root", videos, "--output_root", compressed)
    assert done.returncode == 0, done.stderr
    clips = []
    for index in range(len(list(videos.iterdir()))):
        frames_FHWC = read_frames(compressed / f"video{index}.mp4", 1.0, max_frames)
        frames_FCHW = torch.from_numpy(frames_FHWC).permute(0, 3, 1, 2)
        clips.append(resize_and_crop(frames_FCHW, 96).permute(0, 2, 3, 1).numpy())
    return clips


def spot(frame: np.ndarray, colour: str) -> np.ndarray:
    """Return x, y and the area of what has a colour, NaN for the place where nothing has."""
    hsv = cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2HSV).astype(int)
    away_from = np.abs(hsv[..., 0] - HUES[colour])
    near = np.minimum(away_from, 180 - away_from) < 8
    y, x = np.nonzero(near & (hsv[..., 1] > 80) & (hsv[..., 2] > 145))
    return np.array([x.mean(), y.mean(), len(x)]) if len(x) > 5 else np.array([np.nan, np.nan, 0])


def test_each_motion_is_seen_in_its_time_and_nothing_else_moves(shown, seen):
    """In its first second a thing is at home, then it is away until its time is over."""
    moved = Counter()
    for clip, frames in zip(shown, seen, strict=True):
        assert len(frames) == sum(event["seconds"] for event in clip["events"])
        actors = [event["thing"] for event in clip["events"]]
        colours = Counter(t["colour"] for t in clip["distractors"])
        colours.update({(t["colour"], t["shape"]): t["colour"] for t in actors}.values())
        start = 0
        for event in clip["events"]:
            moving = range(start + 1, start + event["seconds"])
            for actor in actors:
                colour = actor["colour"]
                if colours[colour] > 1:
                    continue  # which of them moves, the colour cannot tell
                home = spot(frames[start], colour)
                assert home[2] > 70, (clip, "not to be seen in the crop")
                for second in moving:
                    motion = event["motion"] if actor == event["thing"] else "still"
                    expect(motion, home, spot(frames[second], colour), (clip, second))
                    moved[motion] += 1
            start += event["seconds"]
    assert len(moved) == 8, moved
    assert min(moved.values()) > 5


def expect(motion: str, home: np.ndarray, now: np.ndarray, where: tuple) -> None:
    """Check one thing's place and area, `now` against `home`."""
    growth = now[2] / home[2]
    if motion == "vanish":
        assert growth < 0.05, where
        return
    dx, dy = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}.get(motion, (0, 0))
    assert abs(now[0] - home[0] - dx * TRIP) < 3, where
    assert abs(now[1] - home[1] - dy * TRIP) < 3, where
    low, high = {"grow": (1.9, 3.0), "shrink": (0.05, 0.4)}.get(motion, (0.85, 1.18))
    assert low < growth < high, (where, growth)


def test_twins_show_the_same_frames_in_another_order(shown, seen):
    part = scenes_part(Plan(train=24, test=15, pretrain=0, captions=3, seed=0))
    pairs = [(k, c["partner"]) for k, c in enumerate(shown) if c["pair"] == "order"]
    pairs = [(one, other) for one, other in pairs if one < other]
    assert len(pairs) == 4 + 3
    for one, other in pairs:
        drawn = [[image.tobytes() for image in part.frames(index)] for index in (one, other)]
        assert drawn[0] != drawn[1]
        assert Counter(drawn[0]) == Counter(drawn[1])
        ours, theirs = (seen[index].astype(float) for index in (one, other))
        assert ours.shape == theirs.shape
        # coding makes small differences, a thing in another place makes large ones
        assert np.abs(ours.mean(axis=0) - theirs.mean(axis=0)).max() < 25
        assert np.abs(ours - theirs).max() > 60


def test_near_duplicates_and_neighbours_are_other_pictures(shown, seen):
    for index, clip in enumerate(shown):
        if clip["pair"] in ("unnamed", "named"):
            ours, theirs = seen[index][0], seen[clip["partner"]][0]
            assert np.abs(ours.astype(float) - theirs).max() > 60


def test_videos_have_25_fps_and_the_length_that_the_annotations_say(scenes):
    videos = json.loads((scenes / "anns" / "MSRVTT_data.json").read_text())["videos"]
    lengths = Counter()
    for video in videos:
        fps, frames = read_video(scenes / "videos" / f"{video['video_id']}.mp4")
        assert fps == pytest.approx(25)
        assert frames.shape == (25 * video["end time"], 256, 320, 3)
        assert video["start time"] == 0
        lengths[video["end time"]] += 1
    assert set(lengths) == {4, 5, 6, 7, 8}


def test_stills_show_what_they_say_in_one_frame(scenes, tmp_path):
    data = json.loads((scenes / "pretrain" / "anns" / "MSRVTT_data.json").read_text())
    clips = as_seen(scenes / "pretrain" / "videos", tmp_path, 1)
    checked = Counter()
    for video, frames in zip(data["videos"], clips, strict=True):
        assert len(frames) == 1
        things, where = video["shown"]["things"], video["shown"]["where"]
        if len({thing["colour"] for thing in things}) < len(things):
            continue
        spots = [spot(frames[0], thing["colour"]) for thing in things]
        assert all(area > 70 for *_, area in spots), video
        from_x, from_y = (48, 48) if len(things) == 1 else spots[1][:2]
        dx, dy = spots[0][0] - from_x, spots[0][1] - from_y
        true = {
            "left": dx < -12 and abs(dy) < -dx + 3,
            "right": dx > 12 and abs(dy) < dx + 3,
            "above": dy < -12 and abs(dx) < -dy + 3,
            "top": dy < -12 and abs(dx) < -dy + 3,
            "bottom": dy > 12 and abs(dx) < dy + 3,
            "middle": max(abs(dx), abs(dy)) < 11,
        }
        assert true[where], (video, dx, dy)
        checked[where] += 1
    assert sum(checked.values()) > 20
    assert set(checked) >= {"left", "above"}


def test_a_motion_is_out_for_more_than_a_second_of_two_and_starts_and_ends_at_home():
    out = np.array([away(index / 200) for index in range(200)])
    assert out[0] == out[-1] == 0
    assert ((out >= 0) & (out <= 1)).all()
    assert (out[50:161] > 1 - 1e-9).all()
    assert np.abs(np.diff(out)).max() < 0.04
