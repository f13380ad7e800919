"""What a run logs of a split, and which flags reach its reading."""

import logging

import pytest
import torch
from lists import write_lists

from tvr.build import Run
from tvr.checks import check
from tvr.command_line import parse
from tvr.utils.distributed import Ranks
from tvr.utils.errors import UserError


@pytest.fixture
def run_with(annotations, videos):
    """A function: a run on the CPU with these flags more."""

    def make(*more):
        paths = ("--anno_path", str(annotations), "--video_path", str(videos))
        config = parse([*paths, "--output_dir", "o", *more])
        log = logging.getLogger("test_run_split")
        log.setLevel(logging.INFO)
        return Run(config, Ranks(0, 0, 1), torch.device("cpu"), log)

    return make


def test_a_split_of_another_size_than_documented_warns(run_with, caplog, annotations, videos):
    run_with().split("train")
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("warning: msrvtt 9k train: 3 of 9,000 videos")
    ids = [f"new{i}" for i in range(1_000)]
    write_lists(annotations, ["video0"], [(video_id, "a dog") for video_id in ids])
    for video_id in ids:
        (videos / f"{video_id}.avi").touch()
    caplog.clear()
    run_with().split("test")
    (record,) = caplog.records
    assert record.levelname == "INFO"
    assert record.getMessage() == "msrvtt 9k test: 1,000 of 1,000 videos, 1,000 captions"


def test_the_flag_for_partial_training_reaches_the_split(run_with, caplog, videos):
    (videos / "video1.mp4").unlink()
    with pytest.raises(UserError, match="--allow_partial_training 1"):
        run_with("--do_train", "1").split("train")
    run = run_with("--do_train", "1", "--allow_partial_training", "1")
    assert len(run.split("train").clips) == 2
    assert "left out: 1 videos without a file" in caplog.text
    assert check(run.config, run.ranks) == []
    (warning,) = check(run_with("--do_eval", "--allow_partial_training").config, run.ranks)
    assert warning.startswith("--allow_partial_training True has no effect: it only matters in tr")
