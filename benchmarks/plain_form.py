"""The yardstick: training in the paper's plain form, as one would write it down without thinking.

Every caption decodes its clip afresh, augments it frame by frame in PIL, normalises it and pads it,
all in the loader's processes. A step encodes every image of the batch, padding too, and all tokens,
and computes Δ of every pair literally and in fp32.

Shapes: B captions, F = max_frames, L = max_words tokens, C = 3 channels, H = W the encoder's
resolution, D embedding width.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from torch import Tensor
from torch.optim import AdamW
from torch.utils.data import DataLoader, Dataset

from tvr.build import Run
from tvr.dataloaders.datasets import FrameSettings
from tvr.dataloaders.records import Split
from tvr.dataloaders.sampler import Key
from tvr.dataloaders.transforms import clip_seed
from tvr.dataloaders.workers import init_worker
from tvr.models.clip import Backbone, frame_features
from tvr.models.gare import GARE
from tvr.models.losses import total_loss
from tvr.models.score import VideoFeatures
from tvr.utils.optim import (
    BETAS,
    EPS,
    STEP_WITHOUT_BIAS_CORRECTION,
    clamp_logit_scale,
    clip_gradients,
    parameter_groups,
    set_learning_rate,
)


class PilAugment:
    """timm's RandAugment on one PIL image after another, with the same draw for all of a clip."""

    def __init__(self, config: str) -> None:
        self._transform = rand_augment_transform(config, hparams={})

    def __call__(self, frames_FCHW: Tensor, seed: int) -> Tensor:
        """The uint8 frames, augmented."""
        return torch.stack([self._one(frame_CHW, seed) for frame_CHW in frames_FCHW])

    def _one(self, frame_CHW: Tensor, seed: int) -> Tensor:
        random.seed(seed)
        np.random.seed(seed)
        image = self._transform(Image.fromarray(frame_CHW.permute(1, 2, 0).numpy()))
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)


class PlainDataset(Dataset[dict[str, Tensor]]):
    """A caption with its clip: tokens_L, pixels_FCHW in fp32, mask_F, and the clip's number."""

    def __init__(
        self,
        split: Split,
        frames: FrameSettings,
        backbone: Backbone,
        max_words: int,
        randaugment: str | None,
        seed: int,
    ) -> None:
        # decoded each time, also where the others are served from a cache
        self._split, self._frames = split, replace(frames, cache=None)
        self._tokenize, self._max_words = backbone.tokenize, max_words
        self._mean = torch.tensor(backbone.mean).view(-1, 1, 1)
        self._std = torch.tensor(backbone.std).view(-1, 1, 1)
        self._augment = None if randaugment is None else PilAugment(randaugment)
        self._seed = seed
        self._video_of_caption = split.video_of_caption()

    def __len__(self) -> int:
        return len(self._split.captions)

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        video = self._video_of_caption[key.caption]
        frames_FCHW = self._frames.read(self._split.clips[video])
        if self._augment is not None:
            seed = clip_seed(self._seed, key.epoch, key.caption)
            frames_FCHW = self._augment(frames_FCHW, seed)
        count = len(frames_FCHW)
        pixels_FCHW = torch.zeros(self._frames.max_frames, *frames_FCHW.shape[1:])
        pixels_FCHW[:count] = (frames_FCHW.float() / 255 - self._mean) / self._std
        text = self._split.captions[key.caption].text
        return {
            "tokens": self._tokenize([text], length=self._max_words)[0],
            "pixels": pixels_FCHW,
            "mask": torch.arange(self._frames.max_frames) < count,
            "video": torch.tensor(video),
        }


def plain_loader(
    dataset: PlainDataset, batches: Iterable[list[Key]], workers: int, pin_memory: bool
) -> DataLoader[dict[str, Tensor]]:
    """The given batches."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=init_worker,
        generator=torch.Generator().manual_seed(0),
    )


def plain_optimizer(run: Run, model: GARE) -> AdamW:
    """The same rule as `build_optimizer`, in PyTorch's default form and not fused."""
    c = run.config
    groups = parameter_groups(model, c.lr, c.coef_lr, c.weight_decay, c.decay)
    optimizer = AdamW(groups, betas=BETAS, eps=EPS)
    for parameter in (p for group in optimizer.param_groups for p in group["params"]):
        optimizer.state[parameter] = {
            "step": torch.tensor(STEP_WITHOUT_BIAS_CORRECTION),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return optimizer


@dataclass
class PlainLearner:
    """What a plain step works on."""

    run: Run
    model: GARE
    optimizer: AdamW

    def step(self, batch: dict[str, Tensor], number: int, rate: float) -> float:
        """One update at the given factor on the learning rates; returns the loss."""
        run, model = self.run, self.model
        # the dropout of our own step
        torch.manual_seed(run.config.seed * 1_000_003 + number)
        batch = {name: tensor.to(run.device) for name, tensor in batch.items()}
        with run.autocast():
            text = model.encode_text(batch["tokens"])
            video = self._encode_video(batch["pixels"], batch["mask"])
        scores = model.score(text, video, folded=False)
        scale = model.clip.logit_scale.exp()
        settings = run.config.loss_settings()
        loss = total_loss(scores.sim_AB, scores.delta_ABD, scale, batch["video"], settings)["loss"]
        self.optimizer.zero_grad()
        loss.backward()
        clip_gradients(model.parameters(), run.config.max_grad_norm, run.config.grad_clip)
        set_learning_rate(self.optimizer, rate)
        self.optimizer.step()
        clamp_logit_scale(model.clip.logit_scale)
        return loss.item()

    def _encode_video(self, pixels_BFCHW: Tensor, mask_BF: Tensor) -> VideoFeatures:
        features_ND = frame_features(self.model.clip, pixels_BFCHW.flatten(0, 1))
        frames_BFD = features_ND.unflatten(0, mask_BF.shape)
        if self.model.temporal is not None:
            frames_BFD = self.model.temporal(frames_BFD, mask_BF)
        return VideoFeatures(frames_BFD.float(), mask_BF)
