"""Trials of what goes wrong: real processes, killed and stopped at random moments.

Every scenario draws from a generator of its own, made of the seed, its name and the trial's
number, so that a trial can be given again. The moment at which a signal arrives is the system's.
"""

import os
import random
import signal
import socket
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context, set_start_method
from pathlib import Path

from programs import ENVIRONMENT

SERVER = get_context("forkserver")
HEAD = ("scenario", "trials", "interrupted at", "lost", "seconds")


@dataclass
class Trial:
    """One trial: where its chance comes from, where it was interrupted, and what was lost."""

    number: int
    chance: random.Random
    interrupted: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


@dataclass
class Trials:
    """The trials of one scenario, and the row of the table that they become."""

    scenario: str
    seed: int
    count: int
    done: list[Trial] = field(default_factory=list)
    seconds: float = 0.0

    def __iter__(self):
        started = time.monotonic()
        for number in range(self.count):
            trial = Trial(number, random.Random(f"{self.seed} {self.scenario} {number}"))
            self.done.append(trial)
            yield trial
            self.seconds = time.monotonic() - started
        lost = [f"trial {trial.number}: {what}" for trial in self.done for what in trial.lost]
        assert not lost, f"seed {self.seed}, {self.scenario}:\n" + "\n".join(lost)

    def row(self):
        """Scenario, trials, interruptions by their kind, trials with a loss, seconds."""
        kinds = Counter(kind for trial in self.done for kind in trial.interrupted)
        spread = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        lost = sum(bool(trial.lost) for trial in self.done)
        return (self.scenario, len(self.done), spread or "-", lost, round(self.seconds))


def _call(function, arguments, output, environment):
    """In the new process: a session of its own, and output that goes to a file."""
    os.setsid()
    # the server's children would start the readers of data from a server as well
    set_start_method(None, force=True)
    os.environ.update(environment)
    # Ctrl-C works also where a shell started the tests with `&`
    signal.signal(signal.SIGINT, signal.default_int_handler)
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout = open(1, "w", closefd=False, buffering=1)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, buffering=1)  # noqa: SIM115
    code = function(*arguments)
    sys.stdout.flush()
    os._exit(code or 0)


def start(function, *arguments, output, **environment):
    """A process that calls the function, forked from one that has imported the programs.

    To start Python and import them would take longer than what there is to interrupt.
    """
    process = SERVER.Process(target=_call, args=(function, arguments, str(output), environment))
    process.start()
    return process


def prepare_server(*modules):
    """The process to fork from imports these; it has one thread."""
    os.environ.update(OMP_NUM_THREADS=ENVIRONMENT["OMP_NUM_THREADS"])
    SERVER.set_forkserver_preload(list(modules))


def descendants(process):
    """The processes that a process has started, and theirs."""
    found = []
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, children.read_text().split()):
                found += [child, *descendants(child)]
    return found


def kill(process):
    """SIGKILL for a process and all below it, also those in sessions of their own."""
    below = descendants(process.pid)
    for number in (process.pid, *below):
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)


def finished(*processes):
    """Waits for them to end well; whether they have. What hangs for half an hour is killed."""
    for process in processes:
        if wait(process, 1800):
            kill(process)
            process.join()
    return not any(process.exitcode for process in processes)


def wait(process, seconds):
    """Waits so long for a process; whether it is still there."""
    process.join(seconds)
    return process.exitcode is None


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
