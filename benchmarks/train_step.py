"""The training step alone: clips a second, where the time goes, memory, and share of the peak.

    python -m benchmarks.train_step [--variants plain,chunked,checkpointed,compiled,literal]
    python -m benchmarks.train_step --device cuda --base_encoder ViT-B/32 --num_hidden_layers 4 \\
      --batch_size 128 --max_frames 12 --max_words 32 --variants plain,compiled --project 900000

Frames, captions and weights are made up, also those of CLIP. Without `--variants` the step is the
one that the flags describe; each variant is that step with some of its ways changed: `plain` whole
and folded, `chunked` (of `--chunk_size`, or a quarter of the batch), `checkpointed`, `compiled`, or
`literal` scores; `chunked+compiled` is both. Variants take turns, from the same weights on the same
batches. `--steps` steps are one turn, `--rounds` turns are taken; medians over turns. Parts are
timed afterwards, with a wait for the device around each. On a GPU the step fetches and augments its
frames, beside the step before, as training does; on a CPU the loader's processes would do that.

Memory: "weights and optimiser" are always there, "peak" is what a step needs beyond them. Model
FLOPs count no work that is done twice; the matrix product takes turns with the variants.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.made_up import Trainee, trainee
from benchmarks.measure import alternate, peak_mib, record, table
from benchmarks.step_parts import PARTS, Clock, SquareProduct, model_flops, step_in_parts
from tvr.config import Config
from tvr.utils.arguments import count, zero_or_one
from tvr.utils.errors import UserError

PRODUCT = "matrix product"
AS_FLAGGED = "as flagged"
WAYS = ("plain", "chunked", "checkpointed", "compiled", "literal")
FROM_FLAGS = (
    *("device", "precision", "base_encoder", "batch_size", "max_frames", "max_words"),
    *("agg_module", "num_hidden_layers", "correct", "context", "randaugment", "scoring"),
    *("chunk_size", "grad_checkpointing", "compile", "lr", "coef_lr"),
)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    switch: dict[str, Any] = {"type": zero_or_one, "nargs": "?", "const": True}
    add("--variants", help=f"some of {', '.join(WAYS)}, with commas; + puts two into one")
    add("--base_encoder", default="tiny", help="its architecture; weights are random")
    add("--batch_size", type=int, default=32)
    add("--max_frames", type=int, default=2, help="frames of every clip")
    add("--max_words", type=int, default=24, help="tokens of the longest captions")
    add("--agg_module", default="seqTransf")
    add("--num_hidden_layers", type=int, default=2)
    add("--correct", default="text", help="the side that Δ is added to")
    add("--context", default="frames", help="what ψ attends to")
    add("--scoring", default="fast", help="fast or literal")
    add("--precision", default="auto")
    add("--chunk_size", type=int, default=0)
    add("--grad_checkpointing", **switch, default=False)
    add("--compile", **switch, default=False)
    add("--randaugment", default="rand-m7-n4-mstd0.5-inc1", help="on a GPU; or none")
    add("--lr", type=float, default=1e-4)
    add("--coef_lr", type=float, default=1e-3)
    add("--device", default="cpu")
    add("--threads", type=count, default=2, help="CPU threads")
    add("--batches", type=count, default=4, help="different batches that are made up")
    add("--warmup", type=count, default=4, help="steps of each variant before any is timed")
    add("--steps", type=count, default=4, help="steps of a turn")
    add("--rounds", type=count, default=5, help="turns of each variant; the median is reported")
    add("--memory", type=zero_or_one, default=True, help="0: do not measure it")
    add("--project", type=count, help="how long so many clips take: captions times epochs")
    add("--json", type=Path, help="where to write the figures")
    return parser.parse_args()


def variants(args: argparse.Namespace) -> dict[str, Config]:
    """The settings of every variant, by its name.

    Raises:
        UserError: there is no such variant.
    """
    flagged = Config(do_train=True, **{name: getattr(args, name) for name in FROM_FLAGS})
    if args.variants is None:
        return {AS_FLAGGED: flagged}
    plain = replace(flagged, scoring="fast", chunk_size=0, grad_checkpointing=False, compile=False)
    changes = {
        "plain": {},
        "chunked": {"chunk_size": args.chunk_size or max(1, args.batch_size // 4)},
        "checkpointed": {"grad_checkpointing": True},
        "compiled": {"compile": True},
        "literal": {"scoring": "literal"},
    }
    chosen = {}
    for name in args.variants.split(","):
        unknown = [way for way in name.split("+") if way not in changes]
        if unknown:
            raise UserError(f"--variants {name}: choose from {', '.join(WAYS)}, joined by +.")
        ways = [changes[way].items() for way in name.split("+")]
        chosen[name] = replace(plain, **dict(change for way in ways for change in way))
    return chosen


def one_step(config: Config, threads: int) -> Callable[[], None]:
    """The first step of a variant, for a process of its own."""
    torch.set_num_threads(threads)
    return partial(trainee(config, batches=1).train, 1)


def state_mib(it: Trainee) -> float:
    """Weights, buffers and the optimiser's numbers, in MiB."""
    model, states = it.learner.model, it.learner.optimizer.state.values()
    tensors = [*model.parameters(), *model.buffers()]
    tensors += [value for state in states for value in state.values()]
    return sum(tensor.nbytes for tensor in tensors) / 2**20


def step_mib(it: Trainee, args: argparse.Namespace) -> float | None:
    """MiB that a step needs at most beyond what is always there.

    None without /proc, and for compiled variants on a CPU, where the compiler's memory would count.
    """
    run = it.learner.run
    if not args.memory or (run.device.type == "cpu" and run.config.compile):
        return None
    if run.device.type == "cpu":
        return peak_mib(one_step, run.config, args.threads)
    torch.cuda.reset_peak_memory_stats(run.device)
    before = torch.cuda.memory_allocated(run.device)
    it.train(1)
    return (torch.cuda.max_memory_allocated(run.device) - before) / 2**20


def parts_of(it: Trainee, steps: int) -> dict[str, float]:
    """Median seconds of every part of a step."""
    times: dict[str, list[float]] = {part: [] for part in PARTS}
    with it.learner.run.matrix_products():
        for step in range(steps):
            clock = Clock(it.learner.run.device)
            step_in_parts(it.learner, it.batches[step % len(it.batches)], step, clock)
            for part in PARTS:
                times[part].append(clock.seconds[part])
    return {part: median(values) for part, values in times.items()}


def loss_difference(first: list[float], other: list[float]) -> float:
    """The largest relative difference of the loss over the steps that both have taken."""
    return max(abs(a - b) / abs(a) for a, b in zip(first, other, strict=False))


def measured(
    args: argparse.Namespace, trainees: dict[str, Trainee]
) -> tuple[list[dict[str, Any]], float]:
    """A row of figures for every variant, and the matrix product's FLOP/s."""
    run = next(iter(trainees.values())).learner.run
    product = SquareProduct(run)
    product()
    for it in trainees.values():
        it.train(args.warmup)
    works = {name: partial(it.train, args.steps) for name, it in trainees.items()}
    times = alternate({**works, PRODUCT: product}, args.rounds, run.device)
    peak = product.flops / times[PRODUCT]
    losses = {name: it.losses() for name, it in trainees.items()}
    first = next(iter(losses.values()))
    rows = []
    for name, it in trainees.items():
        config, step = it.learner.run.config, times[name] / args.steps
        speed = config.batch_size / step
        operations = model_flops(config, it.batches[0])
        row = {
            "variant": name,
            "clips/s": speed,
            "ms per step": 1000 * step,
            "model TFLOP per step": operations / 1e12,
            "TFLOP/s": operations / step / 1e12,
            "% of the matrix product": 100 * operations / step / peak,
            "weights and optimiser MiB": state_mib(it),
            "peak MiB": step_mib(it, args),
            "largest relative difference of the loss": loss_difference(first, losses[name]),
        }
        if args.project:
            row |= {f"hours for {args.project:,} clips": args.project / speed / 3600}
        rows.append(row)
    return rows, peak


def run(args: argparse.Namespace) -> None:
    """Measure, print and record. Raises UserError: settings or values that cannot work."""
    trainees = {name: trainee(config, args.batches) for name, config in variants(args).items()}
    rows, peak = measured(args, trainees)
    parts = []
    for name, it in trainees.items():
        seconds = parts_of(it, args.steps)
        whole = sum(seconds.values())
        share = {f"{part}, %": 100 * seconds[part] / whole for part in PARTS}
        parts.append({"variant": name, "ms with waits": 1000 * whole, **share})
    first = next(iter(trainees.values()))
    device, precision = first.learner.run.device, first.learner.run.precision
    facts = {
        "encoder": f"{args.base_encoder}, random weights",
        "device and precision": f"{device.type}, {precision}",
        "matrix product TFLOP/s": peak / 1e12,
        "loss of the last step": first.losses()[-1],
    }
    print(table(rows), table(parts), sep="\n\n", end="\n\n")
    for name, value in facts.items():
        print(f"{name}: {value:.3g}" if isinstance(value, float) else f"{name}: {value}")
    record(args.json, device, {"rows": rows, "parts": parts, **facts})


def main() -> int:
    """The exit code; a mistake of the user's is printed without a traceback."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    try:
        run(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
