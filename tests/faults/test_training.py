"""A training that is killed, held up, or out of disk ends as one without interruption."""

import functools
import os
import re
import signal
import time
from contextlib import suppress

import pytest
import torch
from caches import mounted
from harness import descendants, finished, free_port, kill, start, wait
from runs import results, training, weights
from test_damage import damage

from main_retrieval import main

FLAGS = ("--epochs", 2, "--batch_size", 6, "--save_every", 3, "--n_display", 1, "--workers", 2)
FLAGS = (*FLAGS, "--resume", "auto")
SELECTED = "selected on a validation split"


@pytest.fixture(scope="module")
def begin(small_shapes, validated_shapes):
    """Starts a training as so many processes, each under `output`."""
    other = ("--anno_path", validated_shapes / "anns", "--video_path", validated_shapes / "videos")
    data = {SELECTED: ("--datatype", "vatex", *other), "": ()}

    def run(output, processes=1, kind="", *flags):
        output.mkdir(exist_ok=True)
        flags = (*FLAGS, *data[kind], *flags)
        argv = [str(flag) for flag in training(small_shapes, output, *flags)]
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

    @functools.cache
    def run(processes, kind=""):
        output = tmp_path_factory.mktemp("straight") / "run"
        began = time.monotonic()
        assert finished(*begin(output, processes, kind)), said(output)
        return output, time.monotonic() - began

    return run


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
    if any("wrote checkpoint_last.pt" in line for line in lines):
        return "the end"
    step, total = map(int, re.search(r"step (\d+)/(\d+)", lines[steps[-1]]).groups())
    return "evaluation" if step in (total // 2, total) else "a step"


def test_killed_at_any_moment(begin, straight, tmp_path, trials):
    """Killed up to three times before it may finish; sometimes its latest state is damaged as well.

    How often it saves, how many states it keeps and on what it selects is drawn, too.
    """
    for trial in trials("training, SIGKILL", short=2, long=50):
        draw, output = trial.chance, tmp_path / str(trial.number)
        kind = draw.choice(("", SELECTED))
        flags = ("--save_every", draw.choice((0, 1, 3, 7)), "--keep_last", draw.choice((1, 2, 3)))
        expected, seconds = straight(1, kind)
        for _ in range(draw.choice((1, 1, 2, 3))):
            (process,) = begin(output, 1, kind, *flags)
            if wait(process, draw.uniform(0, seconds)):
                kill(process)
                process.join()
                trial.interrupted.append(phase(output))
                latest, *earlier = sorted(output.glob("state_*"), reverse=True) or [None]
                if earlier and draw.random() < 0.5:
                    trial.interrupted[-1] += f", {damage(latest, draw)} damaged"
        if finished(*begin(output, 1, kind, *flags)):
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
        if finished(*begin(output, 2)):
            trial.lost += differences(output, expected)
        else:
            trial.lost.append(said(output))


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
        if finished(*ranks):
            trial.lost += differences(output, expected)
        else:
            trial.lost.append(said(output))


def test_full_disk(begin, straight, tmp_path, trials):
    """From some moment on there is no space at all; then there is again."""
    expected, seconds = straight(1)
    for trial in trials("full disk", short=1, long=10):
        with mounted(tmp_path / str(trial.number), "size=2g") as disk:
            output = disk / "run"
            output.mkdir()
            (output / "output0").symlink_to(tmp_path / f"{trial.number}.txt")  # not on that disk
            (process,) = begin(output)
            if wait(process, trial.chance.uniform(0, seconds)):
                fill(disk / "other")
                trial.interrupted.append(phase(output))
                finished(process)
                trial.lost += wrong_end(process.exitcode, (output / "output0").read_text())
                (disk / "other").unlink()
                (process,) = begin(output)
            if finished(process):
                trial.lost += differences(output, expected)
            else:
                trial.lost.append(said(output))


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
