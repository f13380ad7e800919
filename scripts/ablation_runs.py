"""The trainings behind the ablation tables: which are needed, which are there, how to run one.

A training lies in a folder named after the flags that set it apart, so that tables share it:

    OUTPUT/runs/alpha-3.0/seed-42/flags.json    every flag, written before it starts
                                  output.txt    what it printed
                                  metrics.json
                                  finished      empty, written after it ended well
"""

from __future__ import annotations

import fcntl
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvr.build import BEST, LAST, STATES
from tvr.command_line import parse
from tvr.presets import canonical
from tvr.utils.errors import UserError
from tvr.utils.stopping import STOPPED

MAIN = Path(__file__).parent.parent / "main_retrieval.py"
CHECKPOINTS = (LAST, BEST, STATES)
# They decide nothing about the numbers
IRRELEVANT = frozenset(
    {"output_dir", "overwrite", "workers", "n_display", "save_every", "preset", "wandb"}
)
DEFAULT = "default"


@dataclass(frozen=True)
class Training:
    """One training: its folder, its flags, and all settings that these amount to."""

    folder: Path
    flags: list[str]
    settings: dict[str, Any]

    @property
    def finished(self) -> bool:
        return (self.folder / "finished").exists()

    def results(self) -> dict[str, Any]:
        return json.loads((self.folder / "metrics.json").read_text(encoding="utf-8"))


def base_flags(datatype: str) -> list[str]:
    """The flags before a row's: the paper's settings for the benchmark."""
    return ["--preset", "paper", "--datatype", datatype]


def effective(flags: list[str]) -> dict[str, Any]:
    """All settings that decide the numbers, by name.

    Raises:
        UserError: an unknown flag or benchmark, or a value that is not of the flag's kind.
    """
    config = parse(flags)
    config.datatype = canonical(config.datatype)
    config.resolve()
    return {name: v for name, v in config.public().items() if name not in IRRELEVANT}


def slug(flags: list[str], base: list[str]) -> str:
    """What `flags` after `base` change, as a folder name: `alpha-3.0`, or `default`."""
    before, after = effective(base), effective([*base, *flags])
    changed = [f"{name}-{value}" for name, value in after.items() if value != before[name]]
    return "_".join(changed) or DEFAULT


def plan(base: list[str], flags: list[str], seed: int, output: Path) -> Training:
    """The training of one row with one seed."""
    folder = output / "runs" / slug(flags, base) / f"seed-{seed}"
    everything = ["--do_train", "1", *base, *flags, "--seed", str(seed)]
    everything += ["--overwrite", "1", "--output_dir", str(folder)]
    return Training(folder, everything, effective(everything))


def refuse_other_flags(training: Training) -> None:
    """Raises UserError where the folder holds a training with other flags, finished or not."""
    file = training.folder / "flags.json"
    if not file.exists():
        return
    earlier = json.loads(file.read_text(encoding="utf-8"))
    names = sorted({*earlier, *training.settings})
    different = [
        f"--{name} {earlier.get(name)}, now {training.settings.get(name)}"
        for name in names
        if earlier.get(name) != training.settings.get(name)
    ]
    if different:
        raise UserError(
            f"{training.folder} was trained with other flags:\n  "
            + "\n  ".join(different)
            + "\nChoose another OUTPUT."
        )


def train(training: Training, launcher: list[str], keep: bool) -> None:
    """Train, unless that has been done.

    Raises:
        UserError: the training failed, with what it said, or see `refuse_other_flags`.
    """
    folder = training.folder
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        refuse_other_flags(training)
        if training.finished:
            print(f"    done: {folder}", flush=True)
            return
        written = json.dumps(training.settings, indent=2, ensure_ascii=False)
        (folder / "flags.json").write_text(f"{written}\n", encoding="utf-8")
        output = folder / "output.txt"
        print(f"    training: {output}", flush=True)
        with output.open("w", encoding="utf-8") as file:
            command = [*launcher, str(MAIN), *training.flags]
            code = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT).returncode
        if code:
            raise UserError(f"{last_words(output)}\nThe training ended with exit code {code}.")
        if STOPPED in output.read_text(encoding="utf-8"):
            raise UserError(f"{last_words(output)}\nThe training was asked to stop before its end.")
        (folder / "finished").touch()
        if not keep:
            for path in (p for pattern in CHECKPOINTS for p in folder.glob(pattern)):
                path.unlink()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Waits for another process that trains in this folder: tables share trainings."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"    waiting for another process: {folder}", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def last_words(output: Path) -> str:
    """The error message at the end of a training's output, or else its last lines."""
    text = output.read_text(encoding="utf-8", errors="replace").rstrip()
    message = re.search(r"^error: (.*?)(?=\n[EW]\d{4} |\Z)", text, re.DOTALL | re.MULTILINE)
    if message:  # up to torchrun's own report, if there is one
        return message[1]
    return "\n".join([f"{output} ends with:", *text.splitlines()[-10:]])
