"""Training: train → train_one_epoch → train_step.

Shapes: A = B pairs of the global batch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW
from tqdm import tqdm

from tvr.build import BEST, LAST, Run, build_model
from tvr.checkpoint import save_checkpoint, write_json
from tvr.dataloaders.datasets import PairBatch, PairDataset, checked, train_loader
from tvr.dataloaders.records import Split
from tvr.dataloaders.sampler import global_batches
from tvr.evaluate import evaluate, pin_memory
from tvr.models.gare import GARE
from tvr.models.losses import total_loss
from tvr.utils.distributed import gather_with_grad
from tvr.utils.errors import UserError
from tvr.utils.logging import memory_gib
from tvr.utils.metrics import table
from tvr.utils.optim import (
    build_optimizer,
    clamp_logit_scale,
    clip_gradients,
    parameter_groups,
    schedule,
    set_learning_rate,
)


@dataclass
class Progress:
    """How far training is, and what the steps since the last log line measured."""

    total_steps: int
    step: int = 0
    started: float = field(default_factory=time.monotonic)
    window_started: float = field(default_factory=time.monotonic)
    window: list[dict[str, float]] = field(default_factory=list)


def run_training(run: Run) -> None:
    """`--do_train`: train, evaluate after every epoch, keep the last and the best checkpoint."""
    config = run.config
    run.refuse_earlier_results()
    train_split, test_split = run.split("train"), run.split("test")
    pairs = len(train_split.captions)
    steps = len(global_batches(pairs, config.batch_size, config.seed, epoch=1)) * config.epochs
    torch.manual_seed(config.seed)
    model = build_model(run)
    dataset = PairDataset(
        train_split,
        run.frames(model),
        partial(model.backbone.tokenize, length=config.max_words),
        None if config.randaugment == "none" else config.randaugment,
        config.seed,
    )
    groups = parameter_groups(model, config.lr, config.coef_lr, config.weight_decay, config.decay)
    optimizer = build_optimizer(groups)
    train(run, model, dataset, test_split, optimizer, Progress(steps))


def train(
    run: Run,
    model: GARE,
    dataset: PairDataset,
    test_split: Split,
    optimizer: AdamW,
    progress: Progress,
) -> None:
    """All epochs. Where a benchmark has no validation split, last and best on test are kept."""
    wrapped = distribute(run, model)
    results: dict[str, dict[str, Any]] = {}
    for epoch in range(1, run.config.epochs + 1):
        train_one_epoch(run, wrapped, dataset, optimizer, progress, epoch)
        # Also before the evaluation, which could fail over a broken video
        save(run, model, LAST, epoch, progress.step, metrics=None)
        metrics = evaluate(run, model, test_split)
        run.log.info("epoch %d on %s\n%s", epoch, test_split.name, table(metrics))
        facts = {"epoch": epoch, "step": progress.step, **metrics}
        results["last"] = {"label": "last epoch", "checkpoint": LAST, **facts}
        best = results.get("best")
        if best is None or metrics["t2v"]["R@1"] > best["t2v"]["R@1"]:
            label = "best epoch by t2v R@1 on the test split itself"
            results["best"] = {"label": label, "checkpoint": BEST, **facts}
        if run.ranks.is_main:
            save_results(run, model, test_split, results, epoch)
    for result in results.values():
        run.log.info("%s (epoch %d):\n%s", result["label"], result["epoch"], table(result))
    run.log.info("wrote %s, %s and metrics.json in %s", LAST, BEST, run.output_dir)


def save_results(
    run: Run, model: GARE, split: Split, results: dict[str, dict[str, Any]], epoch: int
) -> None:
    """Checkpoints and metrics.json after an epoch."""
    last = results["last"]
    save(run, model, LAST, epoch, last["step"], last)
    if results["best"]["epoch"] == epoch:
        save(run, model, BEST, epoch, last["step"], last)
    report = run.report(split)
    write_json(run.output_dir / "metrics.json", {**report, "results": list(results.values())})


def save(
    run: Run, model: GARE, name: str, epoch: int, step: int, metrics: dict[str, Any] | None
) -> None:
    """One checkpoint, written by the main process."""
    if run.ranks.is_main:
        facts = {"config": run.config.public(), "epoch": epoch, "step": step, "metrics": metrics}
        save_checkpoint(run.output_dir / name, model, **facts)


def distribute(run: Run, model: GARE) -> nn.Module:
    """The model as the training step calls it: with gradients averaged over ranks, if several."""
    if run.ranks.world_size == 1:
        return model
    devices = [run.device.index] if run.device.type == "cuda" else None
    return DistributedDataParallel(
        model, device_ids=devices, broadcast_buffers=False, gradient_as_bucket_view=True
    )


def train_one_epoch(
    run: Run,
    model: nn.Module,
    dataset: PairDataset,
    optimizer: AdamW,
    progress: Progress,
    epoch: int,
) -> None:
    """One pass over the pairs; a log line every `--n_display` steps and after the last."""
    model.train()
    config, steps = run.config, progress.total_steps // run.config.epochs
    progress.window_started = time.monotonic()
    for index, batch in enumerate(batches(run, dataset, steps, epoch), start=1):
        factor = schedule(progress.step, progress.total_steps, config.warmup_proportion)
        set_learning_rate(optimizer, factor)
        progress.window.append(train_step(run, model, batch, optimizer, dataset, progress.step))
        progress.step += 1
        if progress.step % config.n_display == 0 or index == steps:
            run.log.info(log_line(run, optimizer, progress, f"epoch {epoch}/{config.epochs}"))


def batches(run: Run, dataset: PairDataset, steps: int, epoch: int) -> Iterator[PairBatch]:
    """This rank's batches of one epoch, on the device, behind a progress bar."""
    config, ranks = run.config, run.ranks
    loader = train_loader(
        dataset,
        config.batch_size // ranks.world_size,
        ranks.rank,
        ranks.world_size,
        config.seed,
        epoch,
        config.workers,
        pin_memory(run),
    )
    quiet = None if ranks.is_main else True  # None: only on a terminal
    for batch in tqdm(checked(loader), f"epoch {epoch}", steps, leave=False, disable=quiet):
        yield batch.to(run.device, non_blocking=True)


def train_step(
    run: Run,
    model: nn.Module,
    batch: PairBatch,
    optimizer: AdamW,
    dataset: PairDataset,
    step: int,
) -> dict[str, float]:
    """One update; returns the loss terms, the logit scale and the gradient norm before clipping.

    Raises:
        UserError: the loss or the gradient is not finite; nothing was updated.
    """
    config = run.config
    # The same dropout on every rank, and in every run that reaches this step
    torch.manual_seed(config.seed * 1_000_003 + step)
    with run.autocast():
        scores, scale = model(batch.tokens_BL, batch.frames_BFCHW, batch.frame_mask_BF)
    terms = total_loss(
        scores.sim_AB,
        scores.delta_ABD,
        scale,
        gather_with_grad(batch.video_B),
        config.loss_settings(),
    )
    terms["loss"].backward()
    norm = clip_gradients(model.parameters(), config.max_grad_norm, config.grad_clip)
    values = scalars({**terms, "scale": scale, "grad_norm": norm})
    if not torch.isfinite(torch.tensor([values["loss"], values["grad_norm"]])).all():
        rows = gather_with_grad(batch.caption_B).tolist()
        captions = [dataset.split.captions[row].caption_id for row in rows]
        raise UserError(
            f"step {step}: the loss or its gradient is not finite ({values}). Nothing was "
            f"updated. Lower --lr, or look at these captions and their videos: {captions}"
        )
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    clamp_logit_scale(getattr(model, "module", model).clip.logit_scale)
    return values


def scalars(tensors: dict[str, Tensor]) -> dict[str, float]:
    """Python numbers, fetched from the device in one transfer."""
    stacked = torch.stack([tensor.detach().float() for tensor in tensors.values()])
    return dict(zip(tensors, stacked.tolist(), strict=True))


def log_line(run: Run, optimizer: AdamW, progress: Progress, epoch: str) -> str:
    """Means over the steps since the last line, rates, speed, memory and the time left."""
    config, window, now = run.config, progress.window, time.monotonic()
    means = {name: sum(w[name] for w in window) / len(window) for name in window[0]}
    rates = sorted({group["lr"] for group in optimizer.param_groups}, reverse=True)
    speed = len(window) * config.batch_size / (now - progress.window_started)
    left = (now - progress.started) / progress.step * (progress.total_steps - progress.step)
    progress.window_started, progress.window = now, []
    return (
        f"{epoch} step {progress.step}/{progress.total_steps}  "
        + "  ".join(f"{name} {value:.4g}" for name, value in means.items())
        + f"  lr {' '.join(f'{rate:.3g}' for rate in rates)}"
        + f"  {speed:.1f} clips/s  {memory_gib(run.device):.1f} GiB"
        + f"  ETA {int(left // 3600)}:{int(left % 3600 // 60):02d}:{int(left % 60):02d}"
    )
