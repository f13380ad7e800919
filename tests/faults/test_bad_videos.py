"""Broken videos in whole trainings and evaluations."""

import csv
import re
import shutil

import pytest
import torch
from clips import make_clip
from runs import LAUNCHERS, evaluation, program, results, training, weights

TEST = "MSRVTT_JSFUSION_test.csv"
SKIP = ("--on_bad_video", "skip")


def ids(shapes, name):
    """The videos of one of the shapes' lists."""
    with (shapes / "anns" / name).open() as file:
        return [row["video_id"] for row in csv.DictReader(file)]


def cut(path):
    path.write_bytes(path.read_bytes()[:-9])
    return path


@pytest.fixture
def own(shapes, tmp_path):
    """The shapes again, to be changed."""
    return shutil.copytree(shapes, tmp_path / "shapes")


@pytest.fixture
def broken(own):
    """Two training videos, which cannot be read any more."""
    names = ids(own, "MSRVTT_train.9k.csv")[3:5]
    return [cut(own / "videos_3fps" / f"{name}.mp4") for name in sorted(names)]


def replaced(log):
    return int(re.search(r"--on_bad_video skip: (\d+) captions were replaced", log)[1])


def test_without_the_flag_a_training_ends_and_goes_on_with_it(call, own, broken, tmp_path):
    done = call(*training(own, tmp_path / "o", "--save_every", 1))
    assert done.returncode == 2
    assert re.search(r"error: \S*/video\d+\.mp4: the video file is cut off", done.stderr)
    assert "--on_bad_video skip" in done.stderr
    more = call(*training(own, tmp_path / "o", "--resume", "auto", *SKIP))
    assert more.returncode == 0, more.stderr
    fresh = call(*training(own, tmp_path / "f", *SKIP))
    assert fresh.returncode == 0, fresh.stderr
    assert results(tmp_path / "o")[1] == results(tmp_path / "f")[1]
    ours, theirs = weights(tmp_path / "o"), weights(tmp_path / "f")
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_several_processes_skip_the_same_and_say_it_once(call, own, broken, tmp_path):
    alone = call(*training(own, tmp_path / "a", *SKIP))
    assert alone.returncode == 0, alone.stderr
    launcher = (*LAUNCHERS["torchrun"], "--nproc_per_node=2")
    two = program(*training(own, tmp_path / "t", *SKIP, "--workers", 2), launcher=launcher)
    assert two.returncode == 0, two.stderr
    for done in (alone, two):
        for path in broken:
            assert done.stdout.count(f"{path}: the video file is cut off") == 1
    assert replaced(alone.stdout) == replaced(two.stdout) > 0
    losses = [re.findall(r"loss (\S+)", done.stdout) for done in (alone, two)]
    assert [float(x) for x in losses[0]] == pytest.approx([float(x) for x in losses[1]], rel=1e-3)


def test_evaluation_needs_every_video(call, own, trained, tmp_path):
    path = cut(own / "videos_3fps" / f"{ids(own, TEST)[0]}.mp4")
    for flags in (
        training(own, tmp_path / "t", *SKIP),
        evaluation(own, trained[0] / "checkpoint_last.pt", tmp_path / "e", *SKIP),
    ):
        done = call(*flags)
        assert done.returncode == 2
        assert f"{path}: the video file is cut off" in done.stderr
    assert "--on_bad_video skip has no effect: it only matters in training" in done.stdout


def test_what_the_second_decoder_reads_is_reported_once(call, own, trained, tmp_path):
    for name in ids(own, TEST)[:2]:
        how = ("-c:v", "mpeg2video", "-q:v", "3", "-f", "mpeg")
        make_clip(own / "videos_3fps" / f"{name}.mp4", 60, "25", encode=how)
    flags = evaluation(own, trained[0] / "checkpoint_last.pt", tmp_path / "o", "--workers", 2)
    done = call(*flags)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"warning: read with opencv, .*: 2 videos:\n", done.stdout)) == 1
    for name in ids(own, TEST)[:2]:
        assert done.stdout.count(f"{name}.mp4: the video file is not played in full by decord") == 1
