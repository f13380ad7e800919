"""The numbers of a training as they come: metrics.jsonl, TensorBoard, and W&B with `--wandb`.

A line of metrics.jsonl is one record:

    {"step": 50, "epoch": 1, "split": "train", "loss": 3.2, …}            means since the last line
    {"step": 1406, "epoch": 1, "split": "msrvtt 9k test", "t2v/R@1": 41.2, …}     an evaluation

Each names how many updates were done. Only the main process writes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tvr.build import Run
from tvr.utils.errors import UserError
from tvr.utils.events import EventFile
from tvr.utils.files import append, replacing

METRICS, TENSORBOARD, WANDB_RUN = "metrics.jsonl", "tensorboard", "wandb_run"
TRAIN = "train"


class Tracker:
    """Writes records in all the places that a run asks for; a context manager."""

    def __init__(self, run: Run, done: int) -> None:
        """`done` updates are done; what an earlier process has recorded of later ones is dropped.

        Raises:
            LocalError: what is there cannot be replaced, or no more be written.
        """
        self._events: EventFile | None = None
        self._wandb: Any = None
        if not run.ranks.is_main:
            return
        self._path = run.output_dir / METRICS
        earlier = [record for record in read_records(self._path) if record["step"] <= done]
        with replacing(self._path) as file:
            file.writelines(_line(record) for record in (earlier if done else ()))
        self._events = EventFile(run.output_dir / TENSORBOARD, first_step=done + 1)
        if run.config.wandb is not None:
            self._wandb = start_wandb(run, goes_on=done > 0)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *_: object) -> None:
        if self._wandb is not None:
            self._wandb.finish()

    def record(self, step: int, epoch: int, split: str, values: Mapping[str, float]) -> None:
        """Add one record; values that are not finite are left out, which JSON cannot say.

        Raises:
            LocalError: it cannot be written, as on a full disk.
        """
        if self._events is None:
            return
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        append(self._path, _line({"step": step, "epoch": epoch, "split": split, **finite}))
        named = {f"{split}/{name}": value for name, value in finite.items()}
        self._events.scalars(step, named)
        if self._wandb is not None:
            self._wandb.log({"step": step, "epoch": epoch, **named})


def bring_records(run: Run, folder: Path) -> None:
    """Take over what the training in another `folder` has recorded, in place of what is here.

    Raises:
        LocalError: the file cannot be replaced.
    """
    records = read_records(folder / METRICS)
    with replacing(run.output_dir / METRICS) as file:
        file.writelines(_line(record) for record in records)
    (run.output_dir / WANDB_RUN).unlink(missing_ok=True)  # this one is a run of its own


def _line(record: Mapping[str, Any]) -> bytes:
    return (json.dumps(record, ensure_ascii=False) + "\n").encode()


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl, none where there is no such file.

    A last line that a killed process has written in part is passed over, like all else that is no
    record.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and type(record.get("step")) is int and "split" in record:
            found.append(record)
    return found


def flat(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The numbers of an evaluation as `t2v/R@1` and so on; intervals are left out."""
    return {
        f"{direction}/{name}": value
        for direction in ("t2v", "v2t")
        for name, value in metrics[direction].items()
        if isinstance(value, int | float)
    }


def start_wandb(run: Run, goes_on: bool) -> Any:
    """A run of W&B, or the one that an interrupted training began, by the name kept in its folder.

    Imported only here: W&B is no requirement.

    Raises:
        UserError: W&B does not start it, for want of a key or of a network, say.
    """
    import wandb

    name = run.output_dir / WANDB_RUN
    earlier = name.read_text(encoding="utf-8").strip() if goes_on and name.is_file() else None
    try:
        started = wandb.init(
            project=run.config.wandb,
            dir=str(run.output_dir),
            config=run.settings_in_force(),
            id=earlier,
            resume="allow" if earlier else None,
        )
    except wandb.errors.Error as error:
        raise UserError(f"--wandb {run.config.wandb}: {error}") from error
    # steps of its own would refuse what is recorded again after an interruption
    started.define_metric("*", step_metric="step")
    with replacing(name) as file:
        file.write(started.id.encode())
    return started
