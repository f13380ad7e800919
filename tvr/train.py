"""Training: train → train_one_epoch → train_step (in `step.py`)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from statistics import fmean
from typing import Any

import torch
from tqdm import tqdm

from tvr.build import BEST, LAST, Run, build_model, starting_checkpoint
from tvr.checkpoint import load_model, read_checkpoint, save_checkpoint, write_json
from tvr.dataloaders.batches import PairBatch, on_device
from tvr.dataloaders.datasets import PairDataset, pair_loader
from tvr.dataloaders.incidents import Incidents
from tvr.dataloaders.records import Split
from tvr.dataloaders.sampler import RankSampler, global_batches
from tvr.dataloaders.workers import checked
from tvr.evaluate import evaluate
from tvr.models.gare import GARE
from tvr.resume import Position, restore, save_state
from tvr.step import Learner, Observed, Watch, distribute, refuse_chunks, train_step
from tvr.utils.distributed import broadcast_weights
from tvr.utils.logging import memory_gib
from tvr.utils.metrics import table
from tvr.utils.optim import build_optimizer, parameter_groups, schedule, set_learning_rate
from tvr.utils.stopping import STOPPED, Stopped, StopRequests


@dataclass
class Progress:
    """How far training is, and what the steps since the last log line measured."""

    total_steps: int
    position: Position = field(default_factory=Position)
    data: str = ""
    started: float = field(default_factory=time.monotonic)
    first_step: int = field(init=False)
    window_started: float = field(default_factory=time.monotonic)
    window: list[Observed] = field(default_factory=list)
    waited: float = 0.0

    def __post_init__(self) -> None:
        self.first_step = self.position.step

    @property
    def step(self) -> int:
        """How many updates are done."""
        return self.position.step

    def start_window(self) -> None:
        """Forget what was measured so far."""
        self.window_started, self.window, self.waited = time.monotonic(), [], 0.0

    def timed(self, batches: Iterator[PairBatch]) -> Iterator[PairBatch]:
        """The same batches; adds the seconds that each was waited for."""
        while True:
            asked = time.monotonic()
            batch = next(batches, None)
            if batch is None:
                return
            self.waited += time.monotonic() - asked
            yield batch


def run_training(run: Run) -> None:
    """`--do_train`: train, select on validation where there is one, report on the test split."""
    config = run.config
    run.refuse_earlier_results()
    train_split, test_split = run.split("train"), run.split("test")
    selection = run.split("val") if run.has_validation else test_split
    steps = len(global_batches(len(train_split.captions), config.batch_size, config.seed, epoch=1))
    model = build_model(run, starting_checkpoint(run))
    refuse_chunks(model, config.chunk_size)
    if config.grad_checkpointing:
        model.checkpoint_activations()
    dataset = PairDataset(
        train_split,
        run.frames(model),
        partial(model.backbone.tokenize, length=config.max_words),
        None if config.randaugment == "none" else config.randaugment,
        config.seed,
        augment_later=run.device.type == "cuda",
        trim=not (model.needs_words and config.padding == "release"),
        skip_unreadable=config.on_bad_video == "skip",
    )
    groups = parameter_groups(model, config.lr, config.coef_lr, config.weight_decay, config.decay)
    watch = Watch(
        torch.zeros((), device=run.device),
        lambda rows: [train_split.captions[row].caption_id for row in rows],
        run.log.warning,
        config.nonfinite_allowed,
    )
    learner = Learner(run, model, distribute(run, model), build_optimizer(groups), watch)
    data = train_split.fingerprint()
    position = restore(learner, data)
    with StopRequests() as requests:
        progress = Progress(steps * config.epochs, position, data)
        results = train(learner, dataset, selection, progress, requests)
        if run.has_validation:
            with requests.at_once(f"before the test; {STOPPED}"):
                results = test_selected(run, model, test_split, results)
        if run.ranks.is_main:
            write_results(run, test_split, results)
    for result in results.values():
        run.log.info("%s (epoch %d):\n%s", result["label"], result["epoch"], table(result))
    run.log.info("wrote %s, %s and metrics.json in %s", LAST, BEST, run.output_dir)


def train(
    learner: Learner,
    dataset: PairDataset,
    selection: Split,
    progress: Progress,
    requests: StopRequests,
) -> dict[str, dict[str, Any]]:
    """All epochs. Keeps the last checkpoint and the one that is best on `selection`.

    Returns their results on `selection`: the validation split, or the test split itself where a
    benchmark has no other.

    Raises:
        Stopped: the process was asked to, and the state is saved.
    """
    run, model, position = learner.run, learner.model, progress.position
    results = position.results
    batches = batches_of(run, dataset, progress)
    for epoch in range(position.evaluated + 1, run.config.epochs + 1):
        train_one_epoch(learner, batches, progress, epoch, requests)
        # Also before the evaluation, which could fail over a broken video
        save(run, model, LAST, epoch, progress.step, metrics=None)
        save_state(learner, position, progress.data)
        with requests.at_once(f"before the evaluation of epoch {epoch}; {STOPPED}"):
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
        position.evaluated = epoch
        save_state(learner, position, progress.data)
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
        if run.ranks.is_main:  # other machines need not see its folder
            path = run.output_dir / BEST
            load_model(model, read_checkpoint(path), path)
        broadcast_weights(model)
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


def train_one_epoch(
    learner: Learner,
    batches: Iterator[PairBatch],
    progress: Progress,
    epoch: int,
    requests: StopRequests,
) -> None:
    """The rest of one pass over the pairs; a log line every `--n_display` steps and at the end.

    At the end also what went wrong with videos, since this process was started.

    Raises:
        Stopped: the process was asked to, and the state is saved.
    """
    run, config, position = learner.run, learner.run.config, progress.position
    learner.model.train()
    steps = progress.total_steps // config.epochs
    left = epoch * steps - position.step
    progress.start_window()
    incidents = Incidents()
    quiet = None if run.ranks.is_main else True  # None: only on a terminal
    bar = tqdm(islice(batches, left), f"epoch {epoch}", left, leave=False, disable=quiet)
    with run.matrix_products():
        for batch in bar:
            factor = schedule(progress.step, progress.total_steps, config.warmup_proportion)
            set_learning_rate(learner.optimizer, factor)
            progress.window.append(train_step(learner, batch, progress.step))
            incidents.add(batch.incidents)
            position.step += 1
            at_end = position.step == epoch * steps
            if position.step % config.n_display == 0 or at_end:
                learner.watch.flush()
                run.log.info(log_line(learner, progress, f"epoch {epoch}/{config.epochs}"))
            code = requests.agreed()
            due = config.save_every and position.step % config.save_every == 0 and not at_end
            if due or code is not None:
                save_state(learner, position, progress.data)
            if at_end or code is not None:
                run.log_incidents(incidents)
            if code is not None:
                raise Stopped(f"stopped after step {position.step}; {STOPPED}", code)


def batches_of(run: Run, dataset: PairDataset, progress: Progress) -> Iterator[PairBatch]:
    """This rank's batches of all epochs, on the device, augmented; counts the time waited."""
    config, ranks = run.config, run.ranks
    sampler = RankSampler(
        dataset.video_of_caption,
        config.batch_size // ranks.world_size,
        ranks.rank,
        ranks.world_size,
        config.seed,
        range(1, config.epochs + 1),
        done=progress.step,
    )
    loader = pair_loader(dataset, sampler, config.workers, run.pin_memory)
    return on_device(progress.timed(checked(loader)), run.device)


def log_line(learner: Learner, progress: Progress, epoch: str) -> str:
    """Means over the steps since the last line, rates, speed, memory and the time left.

    `wait` is the share of the time in which the step waited for its batch.
    """
    run, window, now = learner.run, progress.window, time.monotonic()
    numbers = [observed.numbers() for observed in window]
    means = {name: fmean(values[name] for values in numbers) for name in window[0].names}
    rates = sorted({group["lr"] for group in learner.optimizer.param_groups}, reverse=True)
    passed = now - progress.window_started
    speed, wait = len(window) * run.config.batch_size / passed, progress.waited / passed
    done = progress.step - progress.first_step
    left = (now - progress.started) / done * (progress.total_steps - progress.step)
    progress.start_window()
    return (
        f"{epoch} step {progress.step}/{progress.total_steps}  "
        + "  ".join(f"{name} {value:.4g}" for name, value in means.items())
        + f"  lr {' '.join(f'{rate:.3g}' for rate in rates)}"
        + f"  {speed:.1f} clips/s  wait {wait:.1%}  {memory_gib(run.device):.1f} GiB"
        + f"  ETA {int(left // 3600)}:{int(left % 3600 // 60):02d}:{int(left % 60):02d}"
    )
