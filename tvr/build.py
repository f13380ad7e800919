"""From settings to the things a run works with: device, model, frames, and what to report."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from tvr.agreement import refuse_differences
from tvr.checkpoint import load_model, read_checkpoint, trained_settings
from tvr.checks import TRAINING_ONLY, out_of_range
from tvr.config import Config
from tvr.dataloaders.benchmarks import DATATYPES, has_validation, load_split, protocols
from tvr.dataloaders.cache_store import FrameCache, readable
from tvr.dataloaders.datasets import FrameSettings
from tvr.dataloaders.incidents import Incidents
from tvr.dataloaders.records import Clip, Split
from tvr.models.clip import build_backbone
from tvr.models.gare import GARE, ModelSettings
from tvr.utils.distributed import Ranks, gather_objects, wait_for_all
from tvr.utils.errors import UserError
from tvr.utils.logging import commit, environment

LAST, BEST = "checkpoint_last.pt", "checkpoint_best.pt"
STATES = "state_*.pt"
# Settings that a checkpoint decides unless the command line says otherwise
FROM_CHECKPOINT = (
    *(f.name for f in fields(ModelSettings)),
    *("max_words", "max_frames", "video_framerate"),
)


@dataclass(frozen=True)
class Run:
    """What every part of a run needs: settings, processes, device and logger."""

    config: Config
    ranks: Ranks
    device: torch.device
    log: logging.Logger
    command: str = ""
    # with their decoding process and frame cache, opened once: what that warns of comes once
    opened: dict[FrameSettings, FrameSettings] = field(default_factory=dict)
    # of the splits that were loaded
    clips: list[Clip] = field(default_factory=list)

    @property
    def output_dir(self) -> Path:
        assert self.config.output_dir is not None
        return Path(self.config.output_dir)

    @property
    def protocol(self) -> str:
        return self.config.protocol or protocols(self.config.datatype)[0]

    @property
    def has_validation(self) -> bool:
        """Whether the benchmark has videos for selecting a checkpoint apart from the test split."""
        return has_validation(self.config.datatype, self.protocol)

    @property
    def pin_memory(self) -> bool:
        """Whether batches are to lie in page-locked memory, from where they move faster."""
        return self.device.type == "cuda"

    @property
    def precision(self) -> str:
        """`--precision`, with `auto` resolved for this device."""
        if self.config.precision != "auto":
            return self.config.precision
        # Emulated bf16 does not count: it is slower than fp32
        cuda = self.device.type == "cuda"
        return "amp" if cuda and torch.cuda.is_bf16_supported(False) else "fp32"

    def autocast(self) -> AbstractContextManager:
        """bf16 compute over fp32 weights under `amp`; nothing otherwise."""
        enabled = self.precision == "amp"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)

    @contextmanager
    def matrix_products(self) -> Iterator[None]:
        """fp32 products in TF32 under `amp`, where the GPU has it: ψ and the losses in training."""
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if self.precision == "amp" else before)
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)

    def refuse_earlier_results(self) -> None:
        """Raises UserError where `--output_dir` holds a training run that would be lost."""
        states = sorted(path.name for path in self.output_dir.glob(STATES))
        # what --resume with a PATH may replace is for `make_way` in tvr/resume.py
        resume = self.config.resume if self.config.do_train else None
        if resume and (states or resume != "auto"):
            return
        earlier = [name for name in (LAST, BEST) if (self.output_dir / name).exists()] + states
        if earlier and not self.config.overwrite:
            possible = states and self.config.do_train
            go_on = ", or pass --resume auto to go on from its saved state" if possible else ""
            raise UserError(
                f"--output_dir {self.output_dir} holds {' and '.join(earlier)} of an earlier "
                f"training run. Choose another folder{go_on}, or --overwrite 1 to replace its "
                "files."
            )

    def split(self, name: str) -> Split:
        """The benchmark's split, announced in the log.

        Raises:
            UserError: see `load_split`; or another process has other captions.
        """
        c = self.config
        assert c.anno_path is not None
        assert c.video_path is not None
        split = load_split(
            c.datatype,
            self.protocol,
            name,
            Path(c.anno_path),
            Path(c.video_path),
            c.allow_partial_gallery,
            c.allow_partial_training,
        )
        if split.is_complete():
            self.log.info(split.summary())
        else:
            self.log.warning("warning: %s", split.summary())
        refuse_differences({f"the fingerprint of {split.name}'s captions": split.fingerprint()})
        self.clips.extend(split.clips)
        return split

    def training_captions(self, count: int) -> list[str]:
        """`count` captions of the training split, drawn with `--seed`, without its videos."""
        c = self.config
        assert c.anno_path is not None
        reader = DATATYPES[c.datatype]
        annotated = reader.read_captions(Path(c.anno_path), self.protocol, "train")
        texts = [caption.text for caption in annotated.captions]
        return random.Random(c.seed).sample(texts, min(count, len(texts)))

    def frames(self, model: GARE) -> FrameSettings:
        """How clips become this model's input. Raises UserError, see `FrameCache`."""
        c = self.config
        resolution = model.backbone.resolution
        frames = FrameSettings(c.video_framerate, c.max_frames, resolution, c.video_decoder)
        if frames not in self.opened:
            opened = frames.limited(c.decode_timeout)
            if c.frame_cache is not None:
                opened = opened.cached(Path(c.frame_cache))
                assert opened.cache is not None
                if self.ranks.is_main:
                    self.announce(opened.cache)
            self.opened[frames] = opened
        return self.opened[frames]

    def announce(self, cache: FrameCache) -> None:
        """Log what a frame cache holds, what may come to it, and why nothing can, if so."""
        self.log.info(cache.describe())
        if cache.unwritable is not None:
            self.log.warning(
                "warning: frame cache %s: cannot be written (%s). Clips that are not in it are "
                "decoded each time.",
                cache.folder,
                cache.unwritable,
            )
            return
        most, free = cache.space(self.clips)
        if most:
            level = logging.WARNING if most > free else logging.INFO
            text = "%sframe cache %s: this run's clips may need %s more, %s are free"
            warning = "warning: " if most > free else ""
            self.log.log(level, text, warning, cache.folder, readable(most), readable(free))

    def log_frame_cache(self) -> None:
        """Log what all processes have done to the frame cache since the last call."""
        wait_for_all()
        caches = [frames.cache for frames in self.opened.values() if frames.cache is not None]
        for cache in caches if self.ranks.is_main else ():
            facts, warnings = cache.news()
            for fact in facts:
                self.log.info(fact)
            for warning in warnings:
                self.log.warning("warning: %s", warning)

    def log_incidents(self, incidents: Incidents) -> None:
        """Log what went wrong with videos, in all processes, each of which has to call this."""
        together = Incidents()
        for share in gather_objects(incidents.all()):
            together.add(share)
        for line in together.lines():
            self.log.warning("warning: %s", line)

    def settings_in_force(self) -> dict[str, Any]:
        """Every flag and its value; an evaluation leaves out what only training reads."""
        idle = () if self.config.do_train else TRAINING_ONLY
        return {name: v for name, v in self.config.public().items() if name not in idle}

    def report(self, split: Split, training: Split | None = None) -> dict[str, Any]:
        """The protocol and circumstances that a reported number needs beside it.

        `split` is what is ranked, `training` what was trained on, if anything was.
        """
        trained = {} if training is None else {"complete_training": training.is_complete()}
        return {
            "protocol": {
                **trained,
                "split": split.name,
                "videos": len(split.clips),
                "documented_videos": split.documented_videos,
                "complete_gallery": split.is_complete(),
                "captions": len(split.captions),
                "documented_captions": split.documented_captions,
                "left_out": split.left_out,
                "ties": "counted against the query",
            },
            "settings": self.settings_in_force(),
            "processes": self.ranks.world_size,
            "precision": self.precision,
            "commit": commit(),
            "environment": environment(self.device),
        }


def starting_checkpoint(run: Run) -> dict[str, Any] | None:
    """The content of `--init_model`, whose settings the run then takes over; None without it.

    Raises:
        UserError: see `read_checkpoint` and `adopt_settings`.
    """
    if run.config.init_model is None:
        return None
    content = read_checkpoint(Path(run.config.init_model))
    adopt_settings(run, content)
    return content


def build_model(run: Run, content: dict[str, Any] | None) -> GARE:
    """The model, with the weights of the checkpoint `content` where there is one.

    What starts at random is decided by `--seed`.

    Raises:
        UserError: see `build_backbone` and `load_model`.
    """
    config = run.config
    torch.manual_seed(config.seed)
    backbone = build_backbone(config.base_encoder, run.precision, pretrained=content is None)
    model = GARE(backbone, config.model_settings(), psi_init=config.psi_init)
    if content is not None:
        assert config.init_model is not None
        ignored = load_model(model, content, Path(config.init_model))
        run.log.info("weights from %s", config.init_model)
        if ignored:
            run.log.info("ignored %d of its keys: %s", len(ignored), ", ".join(ignored))
    elif config.zero_shot:
        run.log.info("no --init_model: CLIP alone, without temporal module and Δ")
    elif config.agg_module == "seqTransf" and not model.temporal_from_clip:
        run.log.info("the temporal module starts at random: CLIP's text blocks do not fit it")
    if config.compile:
        model.compile_towers()
    return model.to(run.device)


def adopt_settings(run: Run, content: dict[str, Any]) -> None:
    """Take from a checkpoint what it was trained with; what the command line gave stays.

    Raises:
        UserError: a value in the checkpoint is not one that the flag can have.
    """
    config = run.config
    assert config.init_model is not None
    path = Path(config.init_model)
    trained = trained_settings(path, content)
    if not trained:
        assumed = [name for name in FROM_CHECKPOINT if name not in config.given]
        listed = " ".join(f"--{name} {getattr(config, name)}" for name in assumed)
        run.log.warning("warning: %s carries no settings; assumed: %s", path, listed)
        run.log.warning("warning: the authors trained with --temp 3 and --padding release")
    for name in FROM_CHECKPOINT:
        if name not in trained or trained[name] == getattr(config, name):
            continue
        if not isinstance(trained[name], type(getattr(config, name))):
            raise UserError(f"{path}: its setting {name} is {trained[name]!r}; not usable.")
        if name in config.given:
            given = getattr(config, name)
            run.log.warning("--%s %s, but trained with %s: %s", name, given, trained[name], path)
        else:
            setattr(config, name, trained[name])
            run.log.info("--%s %s, as %s was trained", name, trained[name], path)
    problems = out_of_range(config)
    if problems:
        raise UserError(
            f"{path} carries settings that cannot work:\n  - " + "\n  - ".join(problems)
        )
