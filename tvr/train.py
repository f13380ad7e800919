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

from tvr.build import BEST, LAST, Run, build_model, starting_checkpoint
from tvr.checkpoint import load_model, read_checkpoint, save_checkpoint, write_json
from tvr.dataloaders.datasets import PairBatch, PairDataset, train_loader
from tvr.dataloaders.records import Split
from tvr.dataloaders.sampler import global_batches
from tvr.dataloaders.workers import checked
from tvr.evaluate import evaluate
from tvr.models.gare import GARE
from tvr.models.losses import total_loss
from tvr.utils.distributed import gather_with_grad, wait_for_all
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
    """`--do_train`: train, select on validation where there is one, report on the test split."""
    config = run.config
    run.refuse_earlier_results()
    train_split, test_split = run.split("train"), run.split("test")
    selection = run.split("val") if run.has_validation else test_split
    pairs = len(train_split.captions)
    steps = len(global_batches(pairs, config.batch_size, config.seed, epoch=1)) * config.epochs
    model = build_model(run, starting_checkpoint(run))
    dataset = PairDataset(
        train_split,
        run.frames(model),
        partial(model.backbone.tokenize, length=config.max_words),
        None if config.randaugment == "none" else config.randaugment,
        config.seed,
    )
    groups = parameter_groups(model, config.lr, config.coef_lr, config.weight_decay, config.decay)
    optimizer = build_optimizer(groups)
    results = train(run, model, dataset, selection, optimizer, Progress(steps))
    if run.has_validation:
        results = test_selected(run, model, test_split, results)
        if run.ranks.is_main:
            write_results(run, test_split, results)
    for result in results.values():
        run.log.info("%s (epoch %d):\n%s", result["label"], result["epoch"], table(result))
    run.log.info("wrote %s, %s and metrics.json in %s", LAST, BEST, run.output_dir)


def train(
    run: Run,
    model: GARE,
    dataset: PairDataset,
    selection: Split,
    optimizer: AdamW,
    progress: Progress,
) -> dict[str, dict[str, Any]]:
    """All epochs. Keeps the last checkpoint and the one that is best on `selection`.

    Returns their results on `selection`: the validation split, or the test split itself where a
    benchmark has no other.
    """
    wrapped = distribute(run, model)
    results: dict[str, dict[str, Any]] = {}
    for epoch in range(1, run.config.epochs + 1):
        train_one_epoch(run, wrapped, dataset, optimizer, progress, epoch)
        # Also before the evaluation, which could fail over a broken video
        save(run, model, LAST, epoch, progress.step, metrics=None)
        metrics = evaluate(run, model, selection)
        run.log.info("epoch %d on %s\n%s", epoch, selection.name, table(metrics))
        facts = {"epoch": epoch, "step": progress.step, **metrics}
        results["last"] = {"label": "last epoch", "checkpoint": LAST, **facts}
        save(run, model, LAST, epoch, progress.step, metrics)
        if "best" not in results or metrics["t2v"]["R@1"] > results["best"]["t2v"]["R@1"]:
            itself = "" if run.has_validation else ", the test split itself"
            label = f"best epoch by t2v R@1 on {selection.name}{itself}"
            results["best"] = {"label": label, "checkpoint": BEST, **facts}
            save(run, model, BEST, epoch, progress.step, metrics)
        if run.ranks.is_main:
            write_results(run, selection, results)
    return results


def test_selected(
    run: Run, model: GARE, test_split: Split, results: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The last and the selected checkpoint on the test split, which had no part in selecting."""
    on_test = {run.config.epochs: evaluate(run, model, test_split)}
    selected = results["best"]["epoch"]
    if selected not in on_test:
        wait_for_all()  # until the main process has written it
        path = run.output_dir / BEST
        load_model(model, read_checkpoint(path), path)
        on_test[selected] = evaluate(run, model, test_split)
    return {
        name: {
            **result,
            **on_test[result["epoch"]],
            "validation": {direction: result[direction] for direction in ("t2v", "v2t")},
        }
        for name, result in results.items()
    }


def write_results(run: Run, split: Split, results: dict[str, dict[str, Any]]) -> None:
    """metrics.json: the protocol of `split` and the results on it."""
    report = {**run.report(split), "results": list(results.values())}
    write_json(run.output_dir / "metrics.json", report)


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
        run.pin_memory,
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
