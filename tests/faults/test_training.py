"""A training that is killed, held up, or out of disk ends as one without interruption."""

import os
import re
import signal
import time
from contextlib import suppress

import pytest
import torch
from caches import mounted
from harness import descendants, free_port, kill, start, wait
from runs import results, training, weights

from main_retrieval import main

FLAGS = ("--epochs", 2, "--batch_size", 6, "--save_every", 3, "--n_display", 1, "--workers", 2)
FLAGS = (*FLAGS, "--resume", "auto")


@pytest.fixture(scope="module")
def begin(small_shapes):
    """Starts a training as so many processes, each under `output`."""

    def run(output, processes=1, *flags):
        output.mkdir(exist_ok=True)
        argv = [str(flag) for flag in training(small_shapes, output, *FLAGS, *flags)]
        common = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1"}
        common |= {"MASTER_PORT": str(free_port())}
        return [
            start(
                main,
                argv,
                output=output / f"output{rank}",
                **({"RANK": str(rank), "LOCAL_RANK": str(rank), **common} if processes > 1 else {}),
            )
            for rank in range(processes)
        ]

    return run


@pytest.fixture(scope="module")
def straight(begin, tmp_path_factory):
    """A training without interruption: its folder, and how long it took in seconds."""

    start(int, output=os.devnull).join()  # the first one waits for the server's imports

    def run(processes):
        output = tmp_path_factory.mktemp("straight") / "run"
        began = time.monotonic()
        for process in begin(output, processes):
            process.join()
            assert process.exitcode == 0, said(output)
        return output, time.monotonic() - began

    found = {}
    return lambda processes: found.get(processes) or found.setdefault(processes, run(processes))


def said(output):
    return "\n".join(path.read_text() for path in sorted(output.glob("output*")))


def differences(folder, expected):
    """What of a training is not bit for bit as in another."""
    found = []
    for name in ("checkpoint_last.pt", "checkpoint_best.pt"):
        ours, theirs = weights(folder, name), weights(expected, name)
        found += [f"{name} {k}" for k, tensor in theirs.items() if not torch.equal(ours[k], tensor)]
    if results(folder)[0]["results"] != results(expected)[0]["results"]:
        found.append("results in metrics.json")
    return found


def phase(output):
    """What a training was about when it was killed, as its log and files say."""
    if list(output.glob(".*.part")):
        return "saving"
    lines = (output / "output0").read_text().splitlines() if (output / "output0").exists() else []
    steps = [n for n, line in enumerate(lines) if re.search(r"epoch \d/2 step", line)]
    if not steps:
        return "start-up"
    if (output / "metrics.json").exists() and "wrote checkpoint_last.pt" in lines[-1]:
        return "the end"
    return "evaluation" if re.search("step (10|20)/20", lines[steps[-1]]) else "a step"


def test_killed_at_any_moment(begin, straight, tmp_path, trials):
    """Killed up to three times before it may finish."""
    expected, seconds = straight(1)
    for trial in trials("training, SIGKILL", short=2, long=50):
        output = tmp_path / str(trial.number)
        for _ in range(trial.chance.choice((1, 1, 2, 3))):
            (process,) = begin(output)
            if wait(process, trial.chance.uniform(0, seconds)):
                kill(process)
                process.join()
                trial.interrupted.append(phase(output))
        (process,) = begin(output)
        process.join()
        if process.exitcode == 0:
            trial.lost += differences(output, expected)
        else:
            trial.lost.append(said(output))


def test_two_processes_of_which_one_or_both_are_killed(begin, straight, tmp_path, trials):
    """Where one is killed the other ends within a minute, with one line and exit code 2."""
    expected, seconds = straight(2)
    for trial in trials("two processes, SIGKILL of one or both", short=1, long=10):
        output = tmp_path / str(trial.number)
        ranks = begin(output, 2)
        if wait(ranks[0], trial.chance.uniform(0, seconds)):
            victims = trial.chance.choice((ranks, ranks[:1], ranks[1:]))
            for process in victims:
                kill(process)
            trial.interrupted.append(phase(output))
            for process in ranks:
                if wait(process, 60):
                    trial.lost.append("still there after a minute")
                    kill(process)
                    process.join()
        ranks = begin(output, 2)
        for process in ranks:
            process.join()
        if any(process.exitcode for process in ranks):
            trial.lost.append(said(output))
        else:
            trial.lost += differences(output, expected)


@pytest.mark.parametrize("processes", [1, 2])
def test_held_up(begin, straight, tmp_path, trials, processes):
    """SIGSTOP and SIGCONT: one of the readers of data, or one of the processes."""
    expected, seconds = straight(processes)
    kind = "a reader" if processes == 1 else "one of two processes"
    for trial in trials(f"{kind} held up", short=1, long=10):
        output = tmp_path / str(trial.number)
        ranks = begin(output, processes)
        for _ in range(3):
            if wait(ranks[0], trial.chance.uniform(0, seconds / 4)):
                several = descendants(ranks[0].pid) if processes == 1 else [r.pid for r in ranks]
                for number in several and [trial.chance.choice(several)]:
                    with suppress(ProcessLookupError):
                        os.kill(number, signal.SIGSTOP)
                        time.sleep(trial.chance.uniform(0, 2))
                        os.kill(number, signal.SIGCONT)
                        trial.interrupted.append(phase(output))
        for process in ranks:
            process.join()
        if any(process.exitcode for process in ranks):
            trial.lost.append(said(output))
        else:
            trial.lost += differences(output, expected)


def test_full_disk(begin, straight, tmp_path, trials):
    """From some moment on there is no space at all; then there is again."""
    expected, seconds = straight(1)
    for trial in trials("full disk", short=1, long=10):
        with mounted(tmp_path / str(trial.number), "size=2g") as disk:
            output = disk / "run"
            (process,) = begin(output)
            if wait(process, trial.chance.uniform(0, seconds)):
                fill(disk / "other")
                trial.interrupted.append(phase(output))
                process.join()
                trial.lost += wrong_end(process.exitcode, (output / "output0").read_text())
                (disk / "other").unlink()
                (process,) = begin(output)
            process.join()
            if process.exitcode:
                trial.lost.append(said(output))
            else:
                trial.lost += differences(output, expected)


def fill(path):
    """Take all space that is left."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(2**16))


def wrong_end(code, printed):
    """What a user would miss where a disk was full: one message and exit code 2, or success."""
    errors = [line for line in printed.splitlines() if line.startswith("error: ")]
    found = ["a traceback"] * ("Traceback" in printed)
    if code not in (0, 2) or len(errors) != (code == 2):
        found.append(f"exit code {code}, {len(errors)} error(s)")
    return [f"{what}:\n{printed[-1500:]}" for what in found]
