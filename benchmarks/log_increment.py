"""What `--log_increment 1` adds to the training step.

    python -m benchmarks.log_increment
    python -m benchmarks.log_increment --base_encoder ViT-B/32 --num_hidden_layers 4 \\
      --batch_size 16 --max_frames 12 --max_words 32 --rounds 5

Frames, captions and weights are made up, as for `benchmarks/train_step.py`. Steps with and without
it take turns, from the same weights on the same batches; each goes first as often as the other.
The clock's time says little on a machine that others use, so on a CPU the ratio is that of the
processor's time, of all threads. Medians over rounds of one step each. What is logged is also timed
alone, which is steadier than a difference of two steps.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.made_up import Trainee, trainee
from benchmarks.measure import record, synchronise, table
from tvr.config import Config
from tvr.models.geometry import geometry_statistics
from tvr.utils.arguments import count
from tvr.utils.errors import UserError

FROM_FLAGS = (
    *("device", "precision", "base_encoder", "batch_size", "max_frames", "max_words"),
    *("num_hidden_layers", "correct", "context", "scoring"),
)
WITHOUT, WITH, ALONE = "without", "with", "what is logged, alone"
ALONE_TIMES = 20


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--base_encoder", default="tiny", help="its architecture; weights are random")
    add("--batch_size", type=int, default=32)
    add("--max_frames", type=int, default=2, help="frames of every clip")
    add("--max_words", type=int, default=24, help="tokens of the longest captions")
    add("--num_hidden_layers", type=int, default=2)
    add("--correct", default="text", help="the side that Δ is added to")
    add("--context", default="frames", help="what ψ attends to")
    add("--scoring", default="fast", help="fast or literal")
    add("--precision", default="auto")
    add("--device", default="cpu")
    add("--threads", type=count, default=1, help="CPU threads")
    add("--batches", type=count, default=2, help="different batches that are made up")
    add("--warmup", type=count, default=2, help="steps of each before any is timed")
    add("--rounds", type=count, default=40, help="steps of each that are timed")
    add("--json", type=Path, help="where to write the figures")
    return parser.parse_args()


Times = list[tuple[float, float]]  # seconds of the clock and of the processor


def timed(work: Callable[[], Any], device: torch.device) -> tuple[float, float]:
    """Seconds of the clock and of the processor that a call takes."""
    synchronise(device)
    clock, processor = time.perf_counter(), time.process_time()
    work()
    synchronise(device)
    return time.perf_counter() - clock, time.process_time() - processor


def steps(trainees: dict[str, Trainee], rounds: int, device: torch.device) -> dict[str, Times]:
    """The times of every step of each; they take turns."""
    times: dict[str, Times] = {name: [] for name in trainees}
    for turn in range(rounds):
        order = list(trainees.items())
        for name, it in order[:: 1 if turn % 2 else -1]:
            times[name].append(timed(partial(it.train, 1), device))
    return times


def alone(it: Trainee, device: torch.device) -> Times:
    """The times of what is logged, without a step around it."""
    model = it.learner.model
    batch = it.batches[0].to(device).augmented()
    with torch.no_grad():
        text, video, _ = model.encode(batch.tokens_BL, batch.frames_NCHW, batch.mask_UF)
        scores = model.score(text, video, it.learner.run.config.scoring == "fast")
    logged = partial(geometry_statistics, text, video, scores, model.settings)
    return [timed(logged, device) for _ in range(ALONE_TIMES)]


def table_of(times: dict[str, Times], device: torch.device) -> list[dict[str, Any]]:
    """A row of medians for each; the first is the step without, which the others are added to."""
    counts = 0 if device.type == "cuda" else 1
    medians = {n: [1000 * median(kind) for kind in zip(*t, strict=True)] for n, t in times.items()}
    step = medians[WITHOUT][counts]
    more = {name: ms[counts] - step for name, ms in medians.items()}
    more[ALONE] = medians[ALONE][counts]
    return [
        {
            "--log_increment 1": name,
            "ms": clock,
            "processor ms": processor,
            "more, % of a step": f"{100 * more[name] / step:.2f}",
        }
        for name, (clock, processor) in medians.items()
    ]


def run(args: argparse.Namespace) -> None:
    """Measure, print and record. Raises UserError: settings or values that cannot work."""
    plain = Config(do_train=True, **{name: getattr(args, name) for name in FROM_FLAGS})
    configs = {WITHOUT: plain, WITH: replace(plain, log_increment=True)}
    trainees = {name: trainee(config, args.batches) for name, config in configs.items()}
    device = trainees[WITH].learner.run.device
    for it in trainees.values():
        it.train(args.warmup)
    times = steps(trainees, args.rounds, device)
    assert trainees[WITH].losses() == trainees[WITHOUT].losses(), "what is logged changes nothing"
    rows = table_of({**times, ALONE: alone(trainees[WITH], device)}, device)
    print(table(rows))
    record(args.json, device, {"rows": rows})


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
