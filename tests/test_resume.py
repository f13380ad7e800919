"""A training that was stopped or killed goes on to the same end, bit for bit."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from programs import ENVIRONMENT, ROOT, children
from runs import LAUNCHERS, LONGER, MAIN, program, results, training, weights
from test_main_refusals import refused

TWO = (*LAUNCHERS["torchrun"], "--nproc_per_node=2")


def start(shapes, output, *flags, launcher=()):
    command = [sys.executable, *launcher, MAIN, *training(shapes, output, *LONGER, *flags)]
    return subprocess.Popen(
        list(map(str, command)),
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def after(process, output, line):
    """Returns when the log has a line that this pattern fits, or the process has ended."""
    log = output / "log.txt"
    while process.poll() is None and not (log.exists() and re.search(line, log.read_text())):
        time.sleep(0.002)


def assert_same(folder, expected):
    for name in ("checkpoint_last.pt", "checkpoint_best.pt"):
        ours, theirs = weights(folder, name), weights(expected, name)
        assert all(torch.equal(ours[key], tensor) for key, tensor in theirs.items()), name
    assert results(folder)[1] == results(expected)[1]


@pytest.mark.parametrize("line", ["step 2/", "epoch 1/2 step 20/", "step 34/"])
def test_killed_it_goes_on_bit_for_bit(call, shapes, straight, tmp_path, line):
    process = start(shapes, tmp_path, "--workers", 2)
    after(process, tmp_path, line)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "metrics.json").exists() or "step 40/" not in line
    done = call(*training(shapes, tmp_path, *LONGER, "--resume", "auto"))
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path, straight)


def test_two_processes_killed_go_on_bit_for_bit(shapes, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = program(*training(shapes, whole, *LONGER), launcher=TWO)
    assert done.returncode == 0, done.stderr
    process = start(shapes, killed, launcher=TWO)
    after(process, killed, "step 23/")
    # the launcher first, which starts each of them in a session of its own
    for number in [process.pid, *children(process.pid)]:
        os.kill(number, signal.SIGKILL)
    process.communicate()
    done = program(*training(shapes, killed, *LONGER, "--resume", "auto"), launcher=TWO)
    assert done.returncode == 0, done.stderr
    assert re.search(r"going on after step 2[01]\b", done.stdout)
    assert_same(killed, whole)


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 0), ("SIGUSR1", 0), ("SIGINT", 130)])
def test_asked_to_stop_it_saves_and_ends(call, shapes, straight, tmp_path, number, code):
    """All its processes get the signal, as at the end of a job's time or from a terminal."""
    process = start(shapes, tmp_path)
    after(process, tmp_path, "step 4/")
    os.killpg(process.pid, getattr(signal, number))
    _, errors = process.communicate()
    assert process.returncode == code, errors
    step = int(re.search(r"stopped after step (\d+); --resume auto goes on", errors)[1])
    assert (tmp_path / f"state_{step:08}.pt").exists()
    assert "Traceback" not in errors
    done = call(*training(shapes, tmp_path, *LONGER, "--resume", "auto"))
    assert done.returncode == 0, done.stderr
    assert f"going on after step {step}" in done.stdout
    assert_same(tmp_path, straight)


def test_one_of_two_processes_asked_to_stop_stops_both(shapes, tmp_path):
    process = start(shapes, tmp_path, launcher=TWO)
    after(process, tmp_path, "step 4/")
    os.kill(max(children(process.pid)), signal.SIGUSR1)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert re.search(r"stopped after step \d+; --resume auto goes on", errors)


def test_another_number_of_processes_warns_and_goes_on(shapes, straight, tmp_path):
    process = start(shapes, tmp_path)
    after(process, tmp_path, "step 22/")
    process.send_signal(signal.SIGTERM)
    process.communicate()
    done = program(*training(shapes, tmp_path, *LONGER, "--resume", "auto"), launcher=TWO)
    assert done.returncode == 0, done.stderr
    assert "processes 1 before, 2 now" in done.stdout
    one, two = weights(straight), weights(tmp_path)
    for name, tensor in one.items():
        # ψ's key bias has a gradient of rounding noise alone, of which Adam makes whole steps
        assert (two[name] - tensor).abs().max() <= 1e-4 or name == "psi.key.bias", name


@pytest.fixture
def stopped(straight, tmp_path):
    """The folder of a training with two states, to be damaged."""
    return shutil.copytree(straight, tmp_path / "stopped")


def test_the_last_states_are_kept(straight):
    names = sorted(path.name for path in straight.glob("state_*"))
    assert names == ["state_00000039.pt", "state_00000040.pt"]


@pytest.mark.parametrize("damage", ["short", "changed", "empty"])
def test_a_damaged_state_is_noticed_and_the_one_before_taken(
    call, shapes, stopped, straight, damage
):
    state = stopped / "state_00000040.pt"
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 1
    whole = {"short": content[: len(content) // 2], "changed": content, "empty": b""}
    state.write_bytes(whole[damage])
    done = call(*training(shapes, stopped, *LONGER, "--resume", "auto"))
    assert done.returncode == 0, done.stderr
    assert re.search(r"warning: .*state_00000040\.pt.* Trying the one before", done.stdout)
    assert "going on after step 39" in done.stdout
    assert_same(stopped, straight)


def test_no_readable_state_is_refused_and_nothing_deleted(call, shapes, stopped):
    for state in stopped.glob("state_*"):
        state.write_bytes(b"no state")
    before = sorted(path.name for path in stopped.iterdir())
    done = call(*training(shapes, stopped, *LONGER, "--resume", "auto"))
    refused(done, "--resume auto", "2 saved state(s), of which none can be read")
    assert sorted(path.name for path in stopped.iterdir()) == before


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--lr", 2e-3), "--lr was 0.001, now 0.002"),
        (("--batch_size", 12), "--batch_size was 6, now 12"),
        (("--resume", "nowhere"), "nowhere holds no state_*.pt"),
    ],
)
def test_another_training_is_refused(call, shapes, stopped, flags, named):
    flags = ("--resume", "auto", *flags)
    refused(call(*training(shapes, stopped, *LONGER, *flags)), "--resume", named)


def test_a_checkpoint_of_weights_is_no_state(call, shapes, stopped):
    flags = ("--resume", stopped / "checkpoint_last.pt")
    refused(call(*training(shapes, stopped, *LONGER, *flags)), "no saved state", "--init_model")


def test_other_captions_are_refused(call, shapes, stopped, tmp_path):
    copy = shutil.copytree(shapes, tmp_path / "copy")
    data = copy / "anns/MSRVTT_data.json"
    data.write_text(data.read_text().replace("circle", "disc"))
    done = call(*training(copy, stopped, *LONGER, "--resume", "auto"))
    refused(done, "--resume auto", "the training captions are others")


def test_without_resume_an_earlier_state_is_refused_or_replaced(call, shapes, stopped, straight):
    for path in stopped.glob("checkpoint_*"):
        path.unlink()
    refused(call(*training(shapes, stopped, *LONGER)), "state_00000040.pt", "--resume auto")
    done = call(*training(shapes, stopped, *LONGER, "--overwrite", 1))
    assert done.returncode == 0, done.stderr
    assert_same(stopped, straight)


def test_auto_starts_where_there_is_no_state(call, shapes, straight, tmp_path):
    done = call(*training(shapes, tmp_path, *LONGER, "--resume", "auto"))
    assert done.returncode == 0, done.stderr
    assert "going on" not in done.stdout
    assert_same(tmp_path, straight)


def test_a_full_disk_stops_it_with_the_state_before_intact(call, shapes, straight, tmp_path):
    """The first two states fit; then no file may be larger than a fraction of one."""
    process = start(shapes, tmp_path, "--workers", 0)
    after(process, tmp_path, "step 7/")
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (2**20, 2**20))
    _, errors = process.communicate()
    assert process.returncode == 2, errors
    assert re.search(r"error: .*state_\d+\.pt: cannot be written \(File too large\)", errors)
    assert not list(tmp_path.glob(".*"))
    done = call(*training(shapes, tmp_path, *LONGER, "--resume", "auto"))
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path, straight)
