"""The parts of a training step, one after another, and how much arithmetic is in it.

Shapes: as in `tvr/step.py`.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.made_up import made_up_run, random_model
from benchmarks.measure import synchronise
from tvr.build import Run
from tvr.config import Config
from tvr.dataloaders.batches import PairBatch
from tvr.models.losses import total_loss
from tvr.models.score import TextFeatures, VideoFeatures
from tvr.step import Features, Learner, StepSettings, differentiable, gradient, joined, objective
from tvr.utils.optim import clamp_logit_scale, clip_gradients
from tvr.watch import Observed

AUGMENTATION, FORWARD, OBJECTIVE = "batch to device, augmented", "encoders forward", "ψ and loss"
BACKWARD, UPDATE = "encoders backward", "clipping and update"
PARTS = (AUGMENTATION, FORWARD, OBJECTIVE, BACKWARD, UPDATE)


class Clock:
    """Seconds of each part; waits for the device before and after, which a real step does not."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        synchronise(self.device)
        started = time.perf_counter()
        yield
        synchronise(self.device)
        self.seconds[part] += time.perf_counter() - started


def step_in_parts(learner: Learner, batch: PairBatch, step: int, clock: Clock) -> dict[str, Tensor]:
    """`train_step` with the graph cut at the features, so that its parts can be timed.

    In chunks, "encoders forward" has both passes through the encoders. What is computed again
    because of `--grad_checkpointing` belongs to "encoders backward". Returns the loss terms and the
    norm of the gradient.
    """
    run, model, optimizer = learner.run, learner.model, learner.optimizer
    config, settings = run.config, StepSettings.of(run)
    torch.manual_seed(config.seed * 1_000_003 + step)
    with clock(AUGMENTATION):
        batch = batch.to(run.device, non_blocking=True).augmented()
    in_chunks = 0 < settings.chunk_size < len(batch.tokens_BL)
    chunks = list(batch.chunks(settings.chunk_size)) if in_chunks else [batch]
    with torch.set_grad_enabled(not in_chunks):
        encoded = [_encoded(learner, chunk, settings, clock) for chunk in chunks]
    with clock(OBJECTIVE):
        text, video, scale = _detached(*(joined(encoded) if in_chunks else encoded[0]))
        leaves = [leaf.requires_grad_() for leaf in differentiable(text, video, scale)]
        terms = objective(model, text, video, scale, batch, settings)
        terms["loss"].backward()
    start = [0] * (len(leaves) - 1)
    for number, chunk in enumerate(chunks):
        again = _encoded(learner, chunk, settings, clock) if in_chunks else encoded[0]
        *outputs, factor = differentiable(*again)
        pairs = zip(leaves, start, outputs, strict=False)
        grads = [gradient(leaf)[first : first + len(output)] for leaf, first, output in pairs]
        start = [first + len(output) for first, output in zip(start, outputs, strict=True)]
        if number == len(chunks) - 1:
            outputs, grads = [*outputs, factor], [*grads, gradient(scale)]
        with clock(BACKWARD):
            torch.autograd.backward(outputs, grads)
    with clock(UPDATE):
        norm = clip_gradients(model.parameters(), config.max_grad_norm, config.grad_clip)
        measured = {"loss": terms["loss"], "grad_norm": norm}
        # as in `train_step`
        optimizer.found_inf = learner.watch.add(  # type: ignore[attr-defined]
            Observed(step, measured, batch.caption_B)
        )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        clamp_logit_scale(model.clip.logit_scale)
    return {**terms, "grad_norm": norm}


def _encoded(learner: Learner, chunk: PairBatch, settings: StepSettings, clock: Clock) -> Features:
    with clock(FORWARD), settings.autocast():
        return learner.encoders(chunk.tokens_BL, chunk.frames_NCHW, chunk.mask_UF)


def _detached(text: TextFeatures, video: VideoFeatures, scale: Tensor) -> Features:
    words = None if text.words_ALD is None else text.words_ALD.detach()
    text = TextFeatures(text.text_AD.detach(), words, text.mask_AL)
    return text, VideoFeatures(video.frames_BFD.detach(), video.mask_BF), scale.detach()


def model_flops(config: Config, batch: PairBatch) -> int:
    """Operations of the matrix products and convolutions of a step, forward and backward.

    Two for a multiplication with its addition. What chunks or checkpoints compute again does not
    count; ψ counts in the form that the settings ask for. Nothing is computed: it is counted on
    tensors without memory.
    """
    plain = Config(**{**config.public(), "chunk_size": 0, "device": "cpu", "precision": "fp32"})
    plain.compile = plain.grad_checkpointing = False
    run = made_up_run(plain)
    model, batch = random_model(run).to("meta"), batch.to("meta")
    # the faster kernels of attention are not all known to the counter
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        text, video, scale = model.encode(batch.tokens_BL, batch.frames_NCHW, batch.mask_UF)
        scores = model.score(text, video[batch.clip_B], plain.scoring == "fast")
        settings = plain.loss_settings()
        terms = total_loss(scores.sim_AB, scores.delta_ABD, scale, batch.video_B, settings)
        terms["loss"].backward()
    return counter.get_total_flops()


class SquareProduct:
    """A large product of two square matrices at the run's precision: what the device can do."""

    TIMES = 4

    def __init__(self, run: Run) -> None:
        side = 8192 if run.device.type == "cuda" else 2048
        dtype = {"amp": torch.bfloat16, "fp16": torch.float16}.get(run.precision, torch.float32)
        self.matrix = torch.randn(side, side, device=run.device, dtype=dtype)
        self.out = torch.empty_like(self.matrix)
        self.flops = self.TIMES * 2 * side**3

    def __call__(self) -> None:
        for _ in range(self.TIMES):
            torch.mm(self.matrix, self.matrix, out=self.out)
