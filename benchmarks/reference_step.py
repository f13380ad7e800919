"""Training as it is here against its plain form, on real clips: speed, and that both are the same.

    python -m benchmarks.reference_step [--rounds 3 --steps 50] [--json OUT.json]
    python -m benchmarks.reference_step --trajectory 50

The plain form is `benchmarks/plain_form.py`: each caption's clip decoded every time, PIL, fp32
pixels, padded frames and padded texts encoded, literal ψ, AdamW as it comes. Ours is what
`main_retrieval.py` does: a warm frame cache, tensors, packed frames, trimmed texts, folded ψ, the
fused AdamW. The data, the model and all settings are those of `make demo`, whose videos are made
where they are missing, but for RandAugment, which the demo switches off (`--randaugment none`).
Resizing is the same for both, on tensors, and so is `--precision`, but ψ and the losses of the
plain form are never in TF32.

The two take turns of `--steps` steps on the same captions, each with a new loader; the first step
of a turn, which waits for the loader's processes, is not timed. Medians of `--rounds` turns. "Wait"
is the time in which a step waited for its batch.

`--trajectory N` takes N steps with both from the same weights and compares the losses: without
augmentation, with the same dropout, in the precision asked for (fp32 unless said otherwise).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.clips import make_shapes
from benchmarks.made_up import made_up_run, random_learner, random_model
from benchmarks.measure import record, synchronise, table
from benchmarks.plain_form import PlainDataset, PlainLearner, plain_loader, plain_optimizer
from tvr.build import Run
from tvr.config import Config
from tvr.dataloaders.augment import RAND_AUGMENT
from tvr.dataloaders.batches import PairBatch, on_device
from tvr.dataloaders.datasets import PairDataset, pair_loader
from tvr.dataloaders.records import Split
from tvr.dataloaders.sampler import Key, RankSampler
from tvr.dataloaders.workers import checked
from tvr.progress import Window
from tvr.step import train_step
from tvr.utils.arguments import count
from tvr.utils.errors import UserError
from tvr.utils.optim import schedule, set_learning_rate
from tvr.watch import Observed

PLAIN, OURS = "plain form", "ours"
SHOWN = 10  # steps between two lines of a trajectory
FROM_FLAGS = (
    *("base_encoder", "num_hidden_layers", "max_words", "max_frames", "batch_size", "epochs"),
    *("lr", "coef_lr", "workers", "seed", "device", "precision", "randaugment"),
)
HALF = max(1, (os.cpu_count() or 1) // 2)  # of the cores compute, the others decode, as in the demo


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--trajectory", type=count, metavar="STEPS", help="compare losses instead of speed")
    add("--data", type=Path, default=Path("ckpts/demo/data"), help="made where it is missing")
    add("--train", type=count, default=800, help="training videos to make")
    add("--test", type=count, default=200, help="test videos, which nothing here reads")
    add("--frame_cache", type=Path, default=Path("ckpts/benchmarks/cache"), help="filled first")
    add("--base_encoder", default="tiny", help="its architecture; weights are random")
    add("--num_hidden_layers", type=int, default=2)
    add("--max_words", type=int, default=24)
    add("--max_frames", type=int, default=2)
    add("--batch_size", type=int, default=32)
    add("--epochs", type=count, default=4, help="for the schedule of the learning rate")
    add("--lr", type=float, default=6e-4)
    add("--coef_lr", type=float, default=1.0)
    add("--randaugment", default=RAND_AUGMENT, help="or none; a trajectory has none")
    add("--precision", default="fp32")
    add("--device", default="cpu")
    add("--seed", type=int, default=42)
    add("--workers", type=int, default=min(HALF, 8), help="processes of each loader")
    add("--threads", type=count, default=HALF, help="CPU threads of the main process")
    add("--steps", type=count, default=50, help="steps of a turn, after one that is not timed")
    add("--rounds", type=count, default=3, help="turns of each")
    add("--json", type=Path, help="where to write the figures")
    return parser.parse_args()


@dataclass
class Contender:
    """Batches of given captions, and what a step does with one, its number and its rate."""

    batches: Callable[[list[list[Key]], Window], Iterator[Any]]
    step: Callable[[Any, int, float], Any]
    loss: Callable[[Any], float]  # from what `step` returns


@dataclass
class Bench:
    """Both contenders, and the captions of every step of a training."""

    run: Run
    contenders: dict[str, Contender]
    keys: list[list[Key]]

    def rate(self, step: int) -> float:
        """The factor on the learning rate; a benchmark may go on for longer than the training."""
        total = max(len(self.keys), 1)
        return schedule(step % total, total, self.run.config.warmup_proportion)

    def turn(self, name: str, first: int, steps: int) -> tuple[float, float]:
        """Seconds of some steps from the `first` on, and how long of it they waited for data.

        One more is taken before them.
        """
        contender, window = self.contenders[name], Window()
        numbers = range(first, first + 1 + steps)
        batches = contender.batches([self.keys[n % len(self.keys)] for n in numbers], window)
        contender.step(next(batches), first, self.rate(first))
        synchronise(self.run.device)
        window.restart()
        started = time.perf_counter()
        # not strict, which would wait for the end of the loader's processes
        for number, batch in zip(numbers[1:], batches, strict=False):
            contender.step(batch, number, self.rate(number))
        synchronise(self.run.device)
        return time.perf_counter() - started, window.waited


def plain(run: Run, split: Split) -> Contender:
    """The plain form."""
    config, model = run.config, random_model(run)
    randaugment = None if config.randaugment == "none" else config.randaugment
    frames = run.frames(model)
    dataset = PlainDataset(
        split, frames, model.backbone, config.max_words, randaugment, config.seed
    )
    learner = PlainLearner(run, model, plain_optimizer(run, model))

    def batches(keys: list[list[Key]], window: Window) -> Iterator[dict[str, torch.Tensor]]:
        return window.timed(iter(plain_loader(dataset, keys, config.workers, run.pin_memory)))

    return Contender(batches, learner.step, loss=float)


def ours(run: Run, split: Split) -> Contender:
    """What training does, with its frame cache filled."""
    config, learner = run.config, random_learner(run)
    backbone, frames = learner.model.backbone, run.frames(learner.model)
    for clip in split.clips:
        frames.read(clip)
    dataset = PairDataset(
        split,
        frames,
        partial(backbone.tokenize, length=config.max_words),
        None if config.randaugment == "none" else config.randaugment,
        config.seed,
        augment_later=run.device.type == "cuda",
    )

    def batches(keys: list[list[Key]], window: Window) -> Iterator[PairBatch]:
        loader = pair_loader(dataset, keys, config.workers, run.pin_memory)
        return on_device(window.timed(checked(loader)), run.device)

    def step(batch: PairBatch, number: int, rate: float) -> Observed:
        set_learning_rate(learner.optimizer, rate)
        with run.matrix_products():
            return train_step(learner, batch, number)

    return Contender(batches, step, loss=lambda observed: observed.numbers()["loss"])


def make_bench(args: argparse.Namespace) -> Bench:
    """Data and both contenders.

    Raises:
        UserError: settings or data that cannot work.
    """
    if args.trajectory:
        args.randaugment = "none"
    make_shapes(args.data, args.train, args.test, seconds=3.0)
    flags = {name: getattr(args, name) for name in FROM_FLAGS}
    flags |= {"anno_path": str(args.data / "anns"), "video_path": str(args.data / "videos_3fps")}
    config = Config(do_train=True, allow_partial_gallery=True, **flags)
    run = made_up_run(config)
    split = run.split("train")
    cached = made_up_run(Config(**{**config.public(), "frame_cache": str(args.frame_cache)}))
    sampler = RankSampler(
        split.video_of_caption(), config.batch_size, 0, 1, config.seed, range(1, config.epochs + 1)
    )
    contenders = {PLAIN: plain(run, split), OURS: ours(cached, split)}
    return Bench(run, contenders, list(sampler))


def speed(bench: Bench, rounds: int, steps: int) -> list[dict[str, Any]]:
    """A row of figures for each contender."""
    turns: dict[str, list[tuple[float, float]]] = {name: [] for name in bench.contenders}
    for number in range(rounds):
        for name in bench.contenders:
            turns[name].append(bench.turn(name, number * (steps + 1), steps))
    size = bench.run.config.batch_size
    clips_a_second = {
        name: median(steps * size / seconds for seconds, _ in of_one)
        for name, of_one in turns.items()
    }
    return [
        {
            "training": name,
            "clips/s": clips_a_second[name],
            "ms per step": 1000 * size / clips_a_second[name],
            "of it wait ms": 1000 * median(waited / steps for _, waited in of_one),
            "of it compute ms": 1000 * median((s - waited) / steps for s, waited in of_one),
            "times faster": clips_a_second[name] / clips_a_second[PLAIN],
        }
        for name, of_one in turns.items()
    ]


def trajectory(bench: Bench, steps: int) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Both losses every 10 steps, and how far they are apart at most over all steps."""
    keys = [bench.keys[n % len(bench.keys)] for n in range(steps)]
    losses: dict[str, list[float]] = {}
    for name, contender in bench.contenders.items():
        batches = enumerate(contender.batches(keys, Window()))
        taken = [contender.step(batch, number, bench.rate(number)) for number, batch in batches]
        losses[name] = [contender.loss(step) for step in taken]
    pairs = list(zip(losses[PLAIN], losses[OURS], strict=True))
    rows = [
        {"step": n, PLAIN: f"{pairs[n][0]:.7f}", OURS: f"{pairs[n][1]:.7f}"}
        for n in sorted({*range(0, steps, SHOWN), steps - 1})
    ]
    return rows, {
        "largest relative difference of the loss": max(abs(a - b) / abs(a) for a, b in pairs),
        "largest absolute difference of the loss": max(abs(a - b) for a, b in pairs),
    }


def main() -> int:
    """Measure, print and record; the exit code."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    try:
        bench = make_bench(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    config = bench.run.config
    facts: dict[str, Any] = {
        "encoder": f"{config.base_encoder}, random weights",
        "device and precision": f"{bench.run.device.type}, {bench.run.precision}",
        "clips of a step": config.batch_size,
        "RandAugment": config.randaugment,
    }
    if args.trajectory:
        rows, differences = trajectory(bench, args.trajectory)
        facts |= differences
    else:
        rows = speed(bench, args.rounds, args.steps)
    print(table(rows), end="\n\n")
    for name, value in facts.items():
        print(f"{name}: {value:.3g}" if isinstance(value, float) else f"{name}: {value}")
    record(args.json, bench.run.device, {"rows": rows, **facts})
    return 0


if __name__ == "__main__":
    sys.exit(main())
