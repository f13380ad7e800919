"""Training: train → train_until → train_step (in `step.py`)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
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
from tvr.evaluate import Evaluation, evaluate
from tvr.models.gare import GARE
from tvr.output_folder import write_config
from tvr.progress import Progress, log_line, measured
from tvr.rankings import SO_FAR, write_rankings
from tvr.report.page import write_report
from tvr.resume import restore, save_state
from tvr.step import Learner, distribute, refuse_chunks, train_step
from tvr.track import TRAIN, Tracker, flat
from tvr.utils.distributed import broadcast_weights
from tvr.utils.metrics import table
from tvr.utils.optim import build_optimizer, parameter_groups, schedule, set_learning_rate
from tvr.utils.stopping import STOPPED, Stopped, StopRequests
from tvr.watch import Watch


def run_training(run: Run) -> None:
    """`--do_train`: train, select on validation where there is one, report on the test split.

    Raises:
        Stopped: a process was asked to stop, and the state is saved.
    """
    with StopRequests() as requests:
        run_until_stopped(run, requests)


def run_until_stopped(run: Run, requests: StopRequests) -> None:
    """`run_training`; requests to stop are heeded after the first step and from then on."""
    config = run.config
    run.refuse_earlier_results()
    train_split, test_split = run.split("train"), run.split("test")
    selection = run.split("val") if run.has_validation else test_split
    steps = len(global_batches(len(train_split.captions), config.batch_size, config.seed, epoch=1))
    model = build_model(run, starting_checkpoint(run))
    refuse_chunks(model, config.chunk_size)
    if config.grad_checkpointing:
        model.checkpoint_activations()
    dataset = pairs(run, model, train_split)
    learner = learner_of(run, model, train_split)
    data = train_split.fingerprint()
    progress = Progress(steps, config.epochs, restore(learner, data, steps * config.epochs), data)
    write_config(run)
    with Tracker(run, progress.step) as tracker:
        results = train(learner, dataset, selection, progress, requests, tracker)
    if not (run.output_dir / LAST).exists():
        # the state was another folder's, and nothing was left to train
        save(run, model, LAST, progress, metrics=None)
    if run.has_validation:
        results = test_selected(run, model, test_split, results, requests)
    if run.ranks.is_main:
        write_results(run, test_split, train_split, results)
    for result in results.values():
        run.log.info("%s (epoch %d):\n%s", result["label"], result["epoch"], table(result))
    run.log.info("wrote %s, %s and metrics.json in %s", LAST, BEST, run.output_dir)
    write_report(run, test_split)


def pairs(run: Run, model: GARE, split: Split) -> PairDataset:
    """The captions and clips that a training draws from."""
    config = run.config
    return PairDataset(
        split,
        run.frames(model),
        partial(model.backbone.tokenize, length=config.max_words),
        None if config.randaugment == "none" else config.randaugment,
        config.seed,
        augment_later=run.device.type == "cuda",
        trim=not (model.needs_words and config.padding == "release"),
        skip_unreadable=config.on_bad_video == "skip",
    )


def learner_of(run: Run, model: GARE, split: Split) -> Learner:
    """The model with its optimiser, before the first step."""
    config = run.config
    groups = parameter_groups(model, config.lr, config.coef_lr, config.weight_decay, config.decay)
    watch = Watch(
        torch.zeros((), device=run.device),
        lambda rows: [split.captions[row].caption_id for row in rows],
        run.log.warning,
        config.nonfinite_allowed,
    )
    return Learner(run, model, distribute(run, model), build_optimizer(groups), watch)


def train(
    learner: Learner,
    dataset: PairDataset,
    selection: Split,
    progress: Progress,
    requests: StopRequests,
    tracker: Tracker,
) -> dict[str, dict[str, Any]]:
    """All epochs. Keeps the last checkpoint and the one that is best on `selection`.

    Returns their results on `selection`: the validation split, or the test split itself where a
    benchmark has no other.

    Raises:
        Stopped: the process was asked to, and the state is saved.
    """
    run, model, position = learner.run, learner.model, progress.position
    batches = batches_of(run, dataset, progress)
    for step in progress.evaluations(run.config.eval_every):
        train_until(learner, batches, progress, step, requests, tracker)
        # Also before the evaluation, which could fail over a broken video
        save_state(learner, position, progress.data)
        save(run, model, LAST, progress, metrics=None)
        heed = partial(requests.heed, f"before the evaluation after step {step}; {STOPPED}")
        found = evaluate(run, model, selection, heed)
        run.log.info(
            "epoch %d, step %d on %s\n%s",
            *(progress.epoch, step, selection.name, table(found.metrics)),
        )
        tracker.record(step, progress.epoch, selection.name, flat(found.metrics))
        keep(run, model, selection, progress, found)
        position.evaluated = step
        save_state(learner, position, progress.data)
        if run.ranks.is_main:
            write_results(run, selection, dataset.split, position.results)
    return position.results


def keep(run: Run, model: GARE, selection: Split, progress: Progress, found: Evaluation) -> None:
    """The model as the last one, and as the best one if it is; both with what was found."""
    results, metrics = progress.position.results, found.metrics
    facts = {"epoch": progress.epoch, "step": progress.step, **metrics}
    within = "within " if progress.step % progress.steps_per_epoch else ""
    label = "last epoch"
    if progress.step < progress.steps_per_epoch * progress.epochs:
        label = f"{SO_FAR}, {within}epoch {progress.epoch} of {progress.epochs}"
    kept: dict[str, dict[str, Any]] = {"last": {"label": label, "checkpoint": LAST, **facts}}
    if "best" not in results or metrics["t2v"]["R@1"] > results["best"]["t2v"]["R@1"]:
        itself = "" if run.has_validation else ", the test split itself"
        one = "step" if run.config.eval_every else "epoch"
        label = f"best {one} by t2v R@1 on {selection.name}{itself}"
        kept["best"] = {"label": label, "checkpoint": BEST, **facts}
    for name, result in kept.items():
        results[name] = result
        save(run, model, result["checkpoint"], progress, metrics)
        if not run.has_validation:
            write_rankings(run, name, found.sim_AB, selection)


def test_selected(
    run: Run,
    model: GARE,
    test_split: Split,
    results: dict[str, dict[str, Any]],
    requests: StopRequests,
) -> dict[str, dict[str, Any]]:
    """The last and the selected checkpoint on the test split, which had no part in selecting."""
    heed = partial(requests.heed, f"before the test; {STOPPED}")
    on_test = {results["last"]["step"]: evaluate(run, model, test_split, heed)}
    selected = results.get("best", results["last"])["step"]
    if selected not in on_test:
        if run.ranks.is_main:  # other machines need not see its folder
            path = run.output_dir / BEST
            load_model(model, read_checkpoint(path), path)
        broadcast_weights(model)
        on_test[selected] = evaluate(run, model, test_split, heed)
    tested = {}
    for name, result in results.items():
        found = on_test[result["step"]]
        write_rankings(run, name, found.sim_AB, test_split)
        validation = {direction: result[direction] for direction in ("t2v", "v2t")}
        tested[name] = {**result, **found.metrics, "validation": validation}
    return tested


def write_results(
    run: Run, split: Split, training: Split, results: dict[str, dict[str, Any]]
) -> None:
    """metrics.json: the protocol of `split` and the results on it, after training on `training`."""
    report = {**run.report(split, training), "results": list(results.values())}
    write_json(run.output_dir / "metrics.json", report)


def save(
    run: Run, model: GARE, name: str, progress: Progress, metrics: dict[str, Any] | None
) -> None:
    """One checkpoint, written by the main process."""
    if run.ranks.is_main:
        where = {"epoch": progress.epoch, "step": progress.step}
        facts = {"config": run.config.public(), **where, "metrics": metrics}
        save_checkpoint(run.output_dir / name, model, **facts)


def train_until(
    learner: Learner,
    batches: Iterator[PairBatch],
    progress: Progress,
    until: int,
    requests: StopRequests,
    tracker: Tracker,
) -> None:
    """The steps up to number `until`; a log line every `--n_display` steps and at the end.

    At the end also what went wrong with videos, since this process was started.

    Raises:
        Stopped: the process was asked to, and the state is saved.
    """
    run, config, position = learner.run, learner.run.config, progress.position
    learner.model.train()
    scheduled = progress.steps_per_epoch * (config.schedule_epochs or config.epochs)
    left = until - position.step
    progress.window.restart()
    incidents = Incidents()
    quiet = None if run.ranks.is_main else True  # None: only on a terminal
    bar = tqdm(islice(batches, left), "train", left, leave=False, disable=quiet)
    with run.matrix_products():
        for batch in bar:
            factor = schedule(progress.step, scheduled, config.warmup_proportion)
            set_learning_rate(learner.optimizer, factor)
            progress.window.observed.append(train_step(learner, batch, progress.step))
            incidents.add(batch.incidents)
            position.step += 1
            at_end = position.step == until
            if position.step % config.n_display == 0 or at_end:
                learner.watch.flush()
                values = measured(learner, progress)
                tracker.record(progress.step, progress.epoch, TRAIN, values)
                run.log.info(log_line(values, progress))
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
    return on_device(progress.window.timed(checked(loader)), run.device)
