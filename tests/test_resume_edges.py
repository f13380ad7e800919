"""Going on where something else has happened: other folders, later states, other circumstances."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from programs import ENVIRONMENT, ROOT
from runs import LONGER, MAIN, program, training
from test_main_refusals import refused
from test_resume import after, assert_same, start

from tvr.resume import keep, states
from tvr.track import read_records


@pytest.fixture
def stopped(straight, tmp_path):
    """The folder of a finished training, to go on from."""
    return shutil.copytree(straight, tmp_path / "stopped")


@pytest.fixture(scope="module")
def halfway(shapes, straight, tmp_path_factory):
    """The folder of a training that was stopped in its second epoch."""
    output = tmp_path_factory.mktemp("halfway")
    process = start(shapes, output)
    after(process, output, "step 25/")
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 0
    return output


def copy_of(folder, target):
    return shutil.copytree(folder, target)


def names(folder):
    return [path.name for path in states(folder)]


def test_killed_before_the_first_epoch_is_written_it_goes_on(call, shapes, straight, tmp_path):
    """With states at the ends of epochs alone, at the first file that any of them leaves."""
    process = start(shapes, tmp_path, "--save_every", 0)
    while process.poll() is None and not list(tmp_path.glob("*.pt")):
        time.sleep(0.0005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    done = call(*training(shapes, tmp_path, *LONGER, "--save_every", 0, "--resume", "auto"))
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path, straight)


def test_a_checkpoint_without_a_state_is_no_training_to_go_on_with(call, shapes, stopped):
    for state in stopped.glob("state_*"):
        state.unlink()
    done = call(*training(shapes, stopped, *LONGER, "--resume", "auto"))
    refused(done, "checkpoint_last.pt", "--overwrite 1")
    assert "pass --resume auto" not in done.stderr


@pytest.mark.parametrize(
    ("there", "step", "count", "left"),
    [
        ((3, 6, 9), 9, 2, (9, 6)),
        ((3, 6, 9), 9, 5, (9, 6, 3)),
        ((3, 4, 12), 4, 1, (4,)),  # 12 is damaged, and 4 has just been written
        ((6, 9, 39, 40), 9, 2, (9, 6)),  # gone back from 40
        ((3, 6), -1, 0, ()),
    ],
)
def test_the_last_states_up_to_the_one_just_written_are_kept(tmp_path, there, step, count, left):
    for number in there:
        (tmp_path / f"state_{number:08}.pt").touch()
    keep(tmp_path, step, count)
    assert names(tmp_path) == [f"state_{number:08}.pt" for number in left]


def test_a_damaged_state_gives_way_to_what_follows_and_not_the_other_way_round(
    call, shapes, halfway, straight, tmp_path
):
    folder = copy_of(halfway, tmp_path / "copy")
    latest, before = states(folder)
    latest.write_bytes(latest.read_bytes()[:-100])
    flags = (*LONGER, "--keep_last", 1, "--save_every", 1, "--resume", "auto")
    done = call(*training(shapes, folder, *flags))
    assert done.returncode == 0, done.stderr
    assert f"going on after step {int(before.name[6:14])}" in done.stdout
    assert names(folder) == ["state_00000040.pt"]
    assert_same(folder, straight)


def test_going_back_deletes_later_states_only_when_told_to(call, shapes, stopped, straight):
    flags = training(shapes, stopped, *LONGER, "--resume", stopped / "state_00000039.pt")
    refused(call(*flags), "state_00000040.pt", "--overwrite 1")
    assert names(stopped) == ["state_00000040.pt", "state_00000039.pt"]
    done = call(*flags, "--overwrite", 1)
    assert done.returncode == 0, done.stderr
    assert "going on after step 39" in done.stdout
    assert_same(stopped, straight)


def test_it_goes_on_in_another_folder(call, shapes, halfway, straight, tmp_path):
    done = call(*training(shapes, tmp_path / "other", *LONGER, "--resume", halfway))
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "other", straight)
    assert len(names(halfway)) == 2
    recorded = [
        [(record["step"], record["split"]) for record in read_records(folder / "metrics.jsonl")]
        for folder in (tmp_path / "other", straight)
    ]
    assert recorded[0] == recorded[1]


def test_in_another_folder_nothing_may_be_left_to_train(call, shapes, stopped, straight, tmp_path):
    done = call(*training(shapes, tmp_path / "other", *LONGER, "--resume", stopped))
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "other", straight)


def test_a_folder_with_a_training_of_its_own_is_refused(call, shapes, halfway, stopped):
    before = names(stopped)
    flags = training(shapes, stopped, *LONGER, "--resume", halfway)
    refused(call(*flags), "holds state_00000040.pt, state_00000039.pt", "another --output_dir")
    assert names(stopped) == before


@pytest.mark.parametrize("damaged", [False, True])
def test_without_the_best_checkpoint_it_is_refused_at_the_start(
    call, shapes, halfway, tmp_path, damaged
):
    folder = copy_of(halfway, tmp_path / "copy")
    best = folder / "checkpoint_best.pt"
    best.write_bytes(best.read_bytes()[:1000]) if damaged else best.unlink()
    done = call(*training(shapes, tmp_path / "other", *LONGER, "--resume", folder))
    refused(done, "best checkpoint so far is needed", str(best))


def test_a_better_checkpoint_than_the_state_knows_of_is_found_again(
    call, shapes, halfway, straight, tmp_path
):
    """As after a kill between the writing of a better one and of the state."""
    folder = copy_of(halfway, tmp_path / "copy")
    best = torch.load(folder / "checkpoint_best.pt", weights_only=True)
    torch.save({**best, "step": 40}, folder / "checkpoint_best.pt")
    done = call(*training(shapes, folder, *LONGER, "--resume", "auto"))
    assert done.returncode == 0, done.stderr
    assert "checkpoint_best.pt is not of step 20" in done.stdout
    last = json.loads((folder / "metrics.json").read_text())["results"][0]
    expected = json.loads((straight / "metrics.json").read_text())["results"][0]
    assert last == expected


def test_what_rounds_otherwise_is_said(shapes, halfway, tmp_path):
    folder = copy_of(halfway, tmp_path / "copy")
    flags = training(shapes, folder, *LONGER, "--resume", "auto", "--chunk_size", 2)
    command = [sys.executable, MAIN, *map(str, flags)]
    environment = {**ENVIRONMENT, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = re.search(r"warning: (.*): the same batches in the same order", done.stdout)[1]
    assert "threads 1 before, 2 now" in said
    assert "--chunk_size 0 before, 2 now" in said
    assert "processes" not in said


def test_two_trainings_in_one_folder_are_noticed(shapes, tmp_path):
    process = start(shapes, tmp_path)
    after(process, tmp_path, "step 3/")
    process.send_signal(signal.SIGSTOP)  # it may not be done before the other has started
    done = program(*training(shapes, tmp_path, *LONGER, "--resume", "auto"))
    process.send_signal(signal.SIGCONT)
    refused(done, str(tmp_path), "another run is at work there")
    _, errors = process.communicate()
    assert process.returncode == 0, errors
