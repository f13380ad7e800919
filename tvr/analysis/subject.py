"""What is looked at: a trained model with its data, and what a command asks of it.

Nothing of the run is changed. Settings come from the checkpoint, those on the command line win.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, get_args, get_type_hints

import torch

from tvr.analysis.result import Unavailable
from tvr.build import BEST, LAST, Run, adopt_settings, build_model
from tvr.checkpoint import read_checkpoint, trained_settings
from tvr.checks import contradictions, out_of_range
from tvr.config import Config, flags
from tvr.dataloaders.batches import PairBatch, on_device
from tvr.dataloaders.datasets import pair_loader
from tvr.dataloaders.records import Split
from tvr.dataloaders.sampler import RankSampler
from tvr.dataloaders.workers import checked
from tvr.models.gare import GARE
from tvr.step import Features
from tvr.train import pairs
from tvr.utils.distributed import Ranks, choose_device
from tvr.utils.errors import UserError

ALONE = Ranks(0, 0, 1)
CHECKPOINTS = {"last": LAST, "best": BEST}
# No figure depends on them
IDLE = ("randaugment", "psi_init", "epochs", "schedule_epochs", "warmup_proportion", "gather")
# Of this machine, not of the training; a cache would be filled
HERE = ("device", "workers", "frame_cache")
SETTINGS = [
    f
    for f in flags()
    if f.name in ("seed", *HERE)
    or (f.metadata["group"] in ("data", "model", "loss", "optimisation") and f.name not in IDLE)
]


@dataclass(frozen=True)
class Subject:
    """A model as a checkpoint has it, in evaluation mode and fp32, and the settings of its run."""

    file: Path
    content: dict[str, Any]
    run: Run
    model: GARE

    @property
    def config(self) -> Config:
        return self.run.config

    def split(self, name: str) -> Split:
        """A split of the run's data.

        Raises:
            UserError: no data are named, or see `load_split`.
        """
        missing = [f"--{n}" for n in ("anno_path", "video_path") if not getattr(self.config, n)]
        if missing:
            raise UserError(f"{self.file} names no data: give {' and '.join(missing)}.")
        return self.run.split(name)

    def batches(self, split: Split, count: int) -> Iterator[PairBatch]:
        """The first batches of epoch 1 as a training draws them, without augmentation.

        At most `count`, and no more than an epoch has. Raises UserError: a video cannot be read.
        """
        config, dataset = self.config, pairs(self.run, self.model, split)
        videos = dataset.video_of_caption
        sampler = RankSampler(videos, config.batch_size, 0, 1, config.seed, range(1, 2))
        loader = pair_loader(dataset, sampler, config.workers, self.run.pin_memory)
        yield from islice(on_device(checked(loader), self.run.device), count)

    @torch.no_grad()
    def features(self, batch: PairBatch) -> Features:
        """Those of a batch's captions and of each one's clip, and the score's factor in the loss.

        Dropout is off.
        """
        self.model.eval()
        pixels, tokens_BL = (batch.frames_NCHW, batch.mask_UF), batch.tokens_BL
        text, video, scale = self.model.encode(tokens_BL, *pixels)
        return text, video[batch.clip_B], scale


def open_subject(file: Path, given: dict[str, Any], log: logging.Logger, **assumed: Any) -> Subject:
    """The model of a checkpoint, or of a training's saved state, with the settings it carries.

    `given` are fields of `Config` that count instead, `assumed` those that count where the file
    carries no settings, as the authors' do not.

    Raises:
        UserError: an unusable file, or settings that cannot work.
    """
    content = read_checkpoint(file)
    trained = trained_settings(file, content) or assumed
    taken = {f.name: trained[f.name] for f in SETTINGS if f.name in trained and f.name not in HERE}
    refuse_other_kinds(file, taken)
    config = Config(
        do_train=True,  # the batches are those of a training
        init_model=str(file),
        precision="fp32",
        randaugment="none",
        **{"workers": os.cpu_count() or 1, **taken, **given},
        given=frozenset(given),
    )
    problems = [*out_of_range(config), *contradictions(config, ALONE)]
    if problems:
        raise UserError(f"{file}: settings that cannot work:\n  - " + "\n  - ".join(problems))
    config.resolve()
    run = Run(config, ALONE, choose_device(config.device, ALONE), log)
    adopt_settings(run, content)
    return Subject(file, content, run, build_model(run, content).eval())


def refuse_other_kinds(file: Path, taken: dict[str, Any]) -> None:
    """Raises UserError where a setting of a file is not of its flag's kind."""
    kinds = get_type_hints(Config)
    for name, value in taken.items():
        allowed = get_args(kinds[name]) or (kinds[name],)
        if type(value) not in allowed:
            raise UserError(f"{file}: its setting {name} is {value!r}; not usable.")


@dataclass(frozen=True)
class Request:
    """What a command asks for: the run, what to compare it with, and how much of it to look at.

    `run` and `baseline` are output folders or checkpoint files. `checkpoint` is `last`, `best` or a
    file, None where none was named; `split` likewise.
    """

    run: Path
    baseline: Path | None = None
    checkpoint: str | None = None
    split: str | None = None
    batches: int = 8
    queries: int = 6
    given: dict[str, Any] = field(default_factory=dict)
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("tvr.analysis"))

    @property
    def folder(self) -> Path:
        """The output folder of the run, or where its file is."""
        return self.run.parent if self.run.is_file() else self.run

    @cached_property
    def subject(self) -> Subject:
        """Raises UserError: see `checkpoint_file` and `open_subject`."""
        return open_subject(checkpoint_file(self.run, self.checkpoint), self.given, self.log)

    @cached_property
    def compared(self) -> Subject | None:
        """The baseline, if one is named.

        Raises:
            UserError: it is not there, or has a Δ; or see `open_subject`.
        """
        if self.baseline is None:
            return None
        name = CHECKPOINTS.get(self.checkpoint or "last", LAST)
        file = self.baseline if self.baseline.is_file() else self.baseline / name
        if not file.is_file():
            raise UserError(f"--baseline {self.baseline}: there is no {file}. Name a run's folder.")
        given = {name: value for name, value in self.given.items() if name != "increment"}
        subject = open_subject(file, given, self.log, increment="none")
        if subject.model.psi is not None:
            raise UserError(f"--baseline {file}: has a Δ. Name a run with --increment none.")
        return subject


def checkpoint_file(run: Path, which: str | None) -> Path:
    """The checkpoint of an output folder, or the file itself that `--run` names.

    Raises:
        UserError: it is not there.
    """
    if run.is_file():
        if which is not None:
            raise UserError(
                f"--checkpoint {which}: {run} is a checkpoint itself. Name one of both."
            )
        return run
    if not run.is_dir():
        raise UserError(f"{run}: no such folder or file. Name a run's --output_dir or checkpoint.")
    named = which or "last"
    path = run / CHECKPOINTS[named] if named in CHECKPOINTS else Path(named)
    if path.is_file():
        return path
    if which is None:
        raise Unavailable(f"{run} holds no {path.name}. Name a file with --checkpoint.")
    raise UserError(f"--checkpoint {which}: there is no {path}.")
