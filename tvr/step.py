"""One training step: features, loss and gradients, whole or in chunks, then the update.

Shapes: B captions of this process, U their distinct clips, F frames, D embedding width.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW

from tvr.build import Run
from tvr.dataloaders.batches import PairBatch
from tvr.models.gare import GARE, Encoders
from tvr.models.geometry import delta_statistics, geometry_statistics
from tvr.models.losses import LossSettings, total_loss
from tvr.models.score import TextFeatures, VideoFeatures
from tvr.utils.distributed import (
    average_gradients,
    broadcast_weights,
    gather_with_grad,
    world_size,
)
from tvr.utils.errors import UserError
from tvr.utils.optim import clamp_logit_scale, clip_gradients, part_norms
from tvr.watch import Observed, Watch

Features = tuple[TextFeatures, VideoFeatures, Tensor]


@dataclass(frozen=True)
class StepSettings:
    """How a step gets its gradients: whole or in chunks, Δ folded or literal, which precision.

    `release_gather` makes the gradient of several processes the release's; `geometry` asks for the
    geometry of Δ beside the loss terms.
    """

    loss: LossSettings
    chunk_size: int = 0
    folded: bool = True
    release_gather: bool = False
    geometry: bool = False
    autocast: Callable[[], AbstractContextManager] = nullcontext

    @staticmethod
    def of(run: Run) -> StepSettings:
        """What the flags ask for."""
        config = run.config
        return StepSettings(
            config.loss_settings(),
            config.chunk_size,
            folded=config.scoring == "fast",
            release_gather=config.gather == "release",
            geometry=config.log_increment,
            autocast=run.autocast,
        )


@dataclass
class Learner:
    """What a step works on; `encoders` are the model's, with gradients averaged over ranks."""

    run: Run
    model: GARE
    encoders: nn.Module
    optimizer: AdamW
    watch: Watch


def distribute(run: Run, model: GARE) -> nn.Module:
    """The model's encoders as a step calls them: with gradients averaged over ranks, if several.

    ψ is not among them: each rank computes a part of its gradient after the encoders have been
    left, see `gradients`.
    """
    encoders = Encoders(model)
    if run.ranks.world_size == 1:
        return encoders
    broadcast_weights(model)
    devices = [run.device.index] if run.device.type == "cuda" else None
    return DistributedDataParallel(
        encoders, device_ids=devices, broadcast_buffers=False, gradient_as_bucket_view=True
    )


def train_step(learner: Learner, batch: PairBatch, step: int) -> Observed:
    """One update; returns the loss terms, the logit scale and the gradient norms before clipping.

    Names with a slash are details: norms of the parts, statistics of Δ.

    Raises:
        UserError: the loss or the gradient of the step before was not finite.
    """
    run, model, optimizer = learner.run, learner.model, learner.optimizer
    config = run.config
    # The same dropout on every rank, and in every run that reaches this step
    torch.manual_seed(config.seed * 1_000_003 + step)
    terms = gradients(model, learner.encoders, batch, StepSettings.of(run))
    parts = part_norms(model)
    norm = torch.stack(list(parts.values())).norm()
    clip_gradients(model.parameters(), config.max_grad_norm, config.grad_clip, norm)
    measured = {**terms, "scale": model.clip.logit_scale.exp(), "grad_norm": norm}
    measured |= {f"grad_norm/{name}": part for name, part in parts.items()}
    observed = Observed(step, measured, batch.caption_B)
    # the fused update looks for it there, and is left out where it is 1; torch does not declare it
    optimizer.found_inf = learner.watch.add(observed)  # type: ignore[attr-defined]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    clamp_logit_scale(model.clip.logit_scale)
    return observed


def gradients(
    model: GARE, encoders: nn.Module, batch: PairBatch, settings: StepSettings
) -> dict[str, Tensor]:
    """Add the gradients of the global batch's loss to all parameters; returns the loss terms.

    Every rank computes Δ and the score for its own captions with all ranks' videos.

    With a `chunk_size` the batch is encoded in chunks without a graph; from the gradient with
    respect to the features, each chunk is then encoded again and followed back alone. The gradient
    is the same, as the encoders look at every item alone; memory is bounded by the chunk.
    """
    if not 0 < settings.chunk_size < len(batch.tokens_BL):
        with settings.autocast():
            features: Features = encoders(batch.tokens_BL, batch.frames_NCHW, batch.mask_UF)
        terms = objective(model, *features, batch, settings)
        terms["loss"].backward()
    else:
        terms = _in_chunks(model, encoders, batch, settings)
    if model.psi is not None:
        average_gradients(model.psi.parameters())
    if settings.release_gather:
        as_release_gathers(model)
    return terms


def as_release_gathers(model: GARE) -> None:
    """Make the exact gradient that of the release with W processes: the encoders' divided by W.

    There every process has the whole loss, the way back from the gathered features keeps the
    process's own, and the mean over processes follows. The logit scale and ψ come after it.
    """
    for name, parameter in model.named_parameters():
        after = name == "clip.logit_scale" or name.startswith("psi.")
        if parameter.grad is not None and not after:
            parameter.grad /= world_size()


def objective(
    model: GARE,
    text: TextFeatures,
    video: VideoFeatures,
    scale: Tensor,
    batch: PairBatch,
    settings: StepSettings,
) -> dict[str, Tensor]:
    """The loss terms and statistics of Δ from this rank's features, in fp32 in any case."""
    video = video[batch.clip_B]
    video = VideoFeatures(gather_with_grad(video.frames_BFD), gather_with_grad(video.mask_BF))
    with torch.autocast(scale.device.type, enabled=False):
        scores = model.score(text, video, settings.folded)
        video_B = gather_with_grad(batch.video_B)
        terms = total_loss(scores.sim_AB, scores.delta_ABD, scale, video_B, settings.loss)
        if scores.delta_ABD is not None:
            terms |= delta_statistics(scores.delta_ABD)
        if settings.geometry:
            terms |= geometry_statistics(text, video, scores, model.settings)
    return terms


def _in_chunks(
    model: GARE, encoders: nn.Module, batch: PairBatch, settings: StepSettings
) -> dict[str, Tensor]:
    chunks = list(batch.chunks(settings.chunk_size))
    with torch.no_grad(), settings.autocast():
        parts = [
            model.encode(chunk.tokens_BL, chunk.frames_NCHW, chunk.mask_UF) for chunk in chunks
        ]
    text, video, scale = joined(parts)
    leaves = [leaf.requires_grad_() for leaf in differentiable(text, video, scale)]
    terms = objective(model, text, video, scale, batch, settings)
    terms["loss"].backward()
    start = [0] * (len(leaves) - 1)
    for chunk in chunks:
        last = chunk is chunks[-1]
        exchange: AbstractContextManager[None] = nullcontext()
        if isinstance(encoders, DistributedDataParallel) and not last:
            exchange = encoders.no_sync()
        with exchange:
            with settings.autocast():
                again = encoders(chunk.tokens_BL, chunk.frames_NCHW, chunk.mask_UF)
            *outputs, factor = differentiable(*again)
            grads = [
                gradient(leaf)[first : first + len(output)]
                for leaf, first, output in zip(leaves, start, outputs, strict=False)
            ]
            start = [first + len(output) for first, output in zip(start, outputs, strict=True)]
            # the last chunk's pass takes part in every parameter's exchange, the factor's too
            if last:
                outputs, grads = [*outputs, factor], [*grads, gradient(scale)]
            torch.autograd.backward(outputs, grads)
    return terms


def gradient(leaf: Tensor) -> Tensor:
    """What the backward pass has left at a leaf that the loss depends on."""
    assert leaf.grad is not None
    return leaf.grad


def differentiable(text: TextFeatures, video: VideoFeatures, scale: Tensor) -> list[Tensor]:
    """What of the features the loss has a gradient for; the scale comes last."""
    words = [] if text.words_ALD is None else [text.words_ALD]
    return [text.text_AD, *words, video.frames_BFD, scale]


def joined(parts: list[Features]) -> Features:
    """The chunks' features as those of the whole batch."""
    texts, videos, scales = zip(*parts, strict=True)
    words = None
    if texts[0].words_ALD is not None:
        words = torch.cat([text.words_ALD for text in texts])
    text = TextFeatures(
        torch.cat([text.text_AD for text in texts]),
        words,
        torch.cat([text.mask_AL for text in texts]),
    )
    frames_UFD = torch.cat([video.frames_BFD for video in videos])
    mask_UF = torch.cat([video.mask_BF for video in videos])
    return text, VideoFeatures(frames_UFD, mask_UF), scales[0]


def refuse_chunks(model: GARE, chunk_size: int) -> None:
    """Raises UserError where the encoders do not look at every item alone."""
    for name, module in model.clip.named_modules():
        random = isinstance(module, nn.Dropout) and module.p > 0
        if chunk_size and (isinstance(module, _BatchNorm) or random):
            raise UserError(
                f"--chunk_size {chunk_size}: this --base_encoder has a {type(module).__name__} "
                f"({name}), so chunks would give another gradient than the whole batch. Use "
                "--chunk_size 0, or another encoder."
            )
