"""How far a training is, and what its steps measured since the last log line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import fmean
from typing import TypeVar

from tvr.saved_state import Position
from tvr.step import Learner
from tvr.utils.logging import memory_gib
from tvr.watch import Observed

Batch = TypeVar("Batch")


@dataclass
class Window:
    """What was measured since the last log line."""

    started: float = field(default_factory=time.monotonic)
    observed: list[Observed] = field(default_factory=list)
    waited: float = 0.0

    def restart(self) -> None:
        """Forget what was measured so far."""
        self.started, self.observed, self.waited = time.monotonic(), [], 0.0

    def timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches; adds the seconds that each was waited for."""
        while True:
            asked = time.monotonic()
            batch = next(batches, None)
            if batch is None:
                return
            self.waited += time.monotonic() - asked
            yield batch


@dataclass
class Progress:
    """Where a training stands among its steps; `data` is the fingerprint of its captions."""

    steps_per_epoch: int
    epochs: int
    position: Position
    data: str
    window: Window = field(default_factory=Window)
    started: float = field(default_factory=time.monotonic)
    first_step: int = field(init=False)

    def __post_init__(self) -> None:
        self.first_step = self.position.step

    @property
    def step(self) -> int:
        """How many updates are done."""
        return self.position.step

    @property
    def total_steps(self) -> int:
        """How many updates there will be."""
        return self.steps_per_epoch * self.epochs

    @property
    def epoch(self) -> int:
        """The epoch of the last update, from 1."""
        return -(-self.step // self.steps_per_epoch)

    def evaluations(self, every: int) -> list[int]:
        """After how many updates to evaluate from now on: each epoch, and `every` so many steps."""
        ends = set(range(self.steps_per_epoch, self.total_steps + 1, self.steps_per_epoch))
        between = set(range(every, self.total_steps + 1, every)) if every else set()
        position = self.position
        return sorted(s for s in ends | between if s >= position.step and s > position.evaluated)


def measured(learner: Learner, progress: Progress) -> dict[str, float]:
    """Means over the steps since the last line, rates, speed and memory; starts a new window.

    `wait` is the share of the time in which the step waited for its batch, `memory` in GiB.
    """
    run, window = learner.run, progress.window
    numbers = [observed.numbers() for observed in window.observed]
    values = {name: fmean(each[name] for each in numbers) for name in window.observed[0].names}
    for group in learner.optimizer.param_groups:
        values[f"lr/{group['of']}"] = group["lr"]
    passed = time.monotonic() - window.started
    values["clips/s"] = len(window.observed) * run.config.batch_size / passed
    values["wait"] = window.waited / passed
    values["memory"] = memory_gib(run.device)
    window.restart()
    return values


def log_line(values: dict[str, float], progress: Progress) -> str:
    """What was measured, for people: without the details, whose names have a slash."""
    rates = [f"{value:.3g}" for name, value in values.items() if name.startswith("lr/")]
    last = ("wait", "memory")
    shown = [f"{n} {v:.4g}" for n, v in values.items() if "/" not in n and n not in last]
    done = progress.step - progress.first_step
    passed = time.monotonic() - progress.started
    left = passed / done * (progress.total_steps - progress.step)
    return (
        f"epoch {progress.epoch}/{progress.epochs} step {progress.step}/{progress.total_steps}  "
        + "  ".join(shown)
        + f"  lr {' '.join(sorted(set(rates), key=float, reverse=True))}"
        + f"  {values['clips/s']:.1f} clips/s  wait {values['wait']:.1%}"
        + f"  {values['memory']:.1f} GiB"
        + f"  ETA {int(left // 3600)}:{int(left % 3600 // 60):02d}:{int(left % 60):02d}"
    )
