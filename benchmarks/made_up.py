"""What the benchmarks of training make up: weights, frames and captions of a given size.

Shapes: B captions, L tokens, U = B clips, F = max_frames, N = U * F frames, C = 3 channels, H = W
the encoder's resolution.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from itertools import cycle, islice

import torch

from tvr.build import Run
from tvr.checks import contradictions, out_of_range
from tvr.config import Config
from tvr.dataloaders.augment import RandAugment
from tvr.dataloaders.batches import PairBatch, on_device, trimmed
from tvr.models.clip import build_backbone
from tvr.models.gare import GARE
from tvr.step import Learner, distribute, refuse_chunks, train_step
from tvr.utils.distributed import Ranks, choose_device
from tvr.utils.errors import UserError
from tvr.utils.optim import build_optimizer, parameter_groups, set_learning_rate
from tvr.watch import Observed, Watch

END_TOKEN = 49407
FEWEST_WORDS = 8  # tokens of the shortest made-up caption, or all where there may be fewer


def made_up_run(config: Config) -> Run:
    """A run of one process.

    Raises:
        UserError: settings that cannot work, or a device that is not there.
    """
    ranks = Ranks(0, 0, 1)
    problems = [*out_of_range(config), *contradictions(config, ranks)]
    if problems:
        raise UserError("\n  - ".join(["the settings cannot work:", *problems]))
    config.resolve()
    device = choose_device(config.device, ranks)
    return Run(config, ranks, device, logging.getLogger("benchmarks"))


def random_model(run: Run) -> GARE:
    """The model that the settings describe, with random weights: CLIP's files are not read."""
    config = run.config
    torch.manual_seed(config.seed)
    backbone = build_backbone(config.base_encoder, run.precision, pretrained=False)
    model = GARE(backbone, config.model_settings()).train()
    refuse_chunks(model, config.chunk_size)
    if config.compile:
        model.compile_towers()
    if config.grad_checkpointing:
        model.checkpoint_activations()
    return model.to(run.device)


def random_learner(run: Run) -> Learner:
    """What `train_step` works on, as training makes it but for the weights; at the full rate."""
    config, model = run.config, random_model(run)
    groups = parameter_groups(model, config.lr, config.coef_lr, config.weight_decay, config.decay)
    optimizer = build_optimizer(groups)
    set_learning_rate(optimizer, 1.0)
    watch = Watch(
        torch.zeros((), device=run.device), lambda rows: [str(row) for row in rows], print
    )
    return Learner(run, model, distribute(run, model), optimizer, watch)


def made_up_batch(run: Run, resolution: int, seed: int) -> PairBatch:
    """Noise in the shape of a batch, on the host, page-locked if a GPU will fetch it.

    Every caption has a clip of its own with `max_frames` frames, and from 8 tokens to `max_words`.
    Frames that a GPU is to augment come with a plan; on a CPU, processes of the loader would have
    augmented them, so that this is no part of the step.
    """
    config, on_gpu = run.config, run.device.type == "cuda"
    count, frames = config.batch_size, config.max_frames
    generator = torch.Generator().manual_seed(seed)
    tokens_BL = torch.randint(1, 40_000, (count, config.max_words), generator=generator)
    fewest = min(FEWEST_WORDS, config.max_words)
    length_B = torch.randint(fewest, config.max_words + 1, (count,), generator=generator)
    place_L = torch.arange(config.max_words)
    tokens_BL[place_L == length_B[:, None] - 1] = END_TOKEN
    tokens_BL[place_L >= length_B[:, None]] = 0
    shape = (count * frames, 3, resolution, resolution)
    plans = None
    if on_gpu and config.randaugment != "none":
        augment = RandAugment(config.randaugment)
        plans = [augment.draw(seed * count + clip) for clip in range(count)]
    batch = PairBatch(
        tokens_BL=trimmed(tokens_BL),
        frames_NCHW=torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8),
        mask_UF=torch.ones(count, frames, dtype=torch.bool),
        clip_B=torch.arange(count),
        video_B=torch.arange(count),
        caption_B=torch.arange(count),
        frames_of_clip=[frames] * count,
        augmentation=plans,
    )
    return batch.pin_memory() if on_gpu else batch


@dataclass
class Trainee:
    """A learner that trains on the same few batches again and again."""

    learner: Learner
    batches: list[PairBatch]
    observed: list[Observed] = field(default_factory=list)

    def train(self, steps: int) -> None:
        """The next steps, as `train_one_epoch` takes them."""
        run, done = self.learner.run, len(self.observed)
        batches = islice(cycle(self.batches), done, done + steps)
        with run.matrix_products():
            for batch in on_device(batches, run.device):
                self.observed.append(train_step(self.learner, batch, len(self.observed)))
        self.learner.watch.flush()

    def losses(self) -> list[float]:
        """The loss of every step so far."""
        return [step.numbers()["loss"] for step in self.observed]


def trainee(config: Config, batches: int) -> Trainee:
    """A new trainee; equal settings and seeds give equal weights and batches."""
    run = made_up_run(config)
    learner = random_learner(run)
    resolution = learner.model.backbone.resolution
    made = [made_up_batch(run, resolution, config.seed + k) for k in range(batches)]
    return Trainee(learner, made)
