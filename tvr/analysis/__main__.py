"""The paper's figures, from any checkpoint or run: NAME.png and NAME.csv in DIR/analysis.

    python -m tvr.analysis geometry --run ckpts/msrvtt
    python -m tvr.analysis 3 --run ckpts/msrvtt --baseline ckpts/msrvtt_baseline
    python -m tvr.analysis all --run ckpts/msrvtt/checkpoint_best.pt --output FOLDER

The CSV has all that the picture shows. A run is only read. docs/analysis.md says what the paper
sees in each figure. Exit code: 0, or 2 for a command that cannot be carried out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import MISSING, dataclass
from pathlib import Path

from tvr.analysis import ablations, geometry, gradients, hard_negatives, positives, steps
from tvr.analysis.result import Result, Unavailable
from tvr.analysis.subject import SETTINGS, Request
from tvr.command_line import Parser, add_flag
from tvr.dataloaders.workers import deaths_reported
from tvr.utils.arguments import count, path
from tvr.utils.errors import UserError
from tvr.utils.terminal import complain, printable, show_escapes

ALL = "all"
OPTIONAL = ("baseline", "split", "batches", "queries")
# Flags of all figures that look at a model
MODEL = frozenset({"checkpoint", "split", *(f.name for f in SETTINGS)})


@dataclass(frozen=True)
class Figure:
    """A figure of the paper: its numbers there, how it is made, and what it shows."""

    numbers: tuple[int, ...]
    make: Callable[[Request], Result]
    shows: str
    reads: frozenset[str] = frozenset()  # flags that not every figure has a use for


FIGURES = {
    gradients.NAME: Figure(
        (2, 4, 7),
        gradients.make,
        "per dimension, gradients from positives, negatives and both, on t, t^Δ and Δ",
        MODEL | {"batches"},
    ),
    positives.NAME: Figure(
        (3,),
        positives.make,
        "cosine, lengths and distance of positive pairs, beside the --baseline's",
        MODEL | {"baseline"},
    ),
    ablations.NAME: Figure(
        (5,),
        ablations.make,
        "R@1 over α, λ or any table; --run is the OUTPUT of scripts/ablations.sh",
    ),
    hard_negatives.NAME: Figure(
        (6,),
        hard_negatives.make,
        "queries with their hardest negatives, before and after Δ",
        MODEL | {"baseline", "queries"},
    ),
    geometry.NAME: Figure(
        (8,),
        geometry.make,
        "angles, lengths and distances over a training with --log_increment 1",
    ),
    steps.NAME: Figure(
        (9,),
        steps.make,
        "the trust region's step of Δ against the optimiser's",
        MODEL | {"batches"},
    ),
}
BY_NUMBER = {str(n): name for name, figure in FIGURES.items() for n in figure.numbers}


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    lines = [
        f"  {name:15} {', '.join(map(str, figure.numbers)):8} {figure.shows}"
        for name, figure in FIGURES.items()
    ]
    parser = Parser(
        prog="python -m tvr.analysis",
        description=f"{__doc__}\nFIGURE, by name or by the paper's number:\n\n"
        + "\n".join([*lines, f"  {ALL:24} all that the run has, and why others are not made"]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("figure", metavar="FIGURE", choices=(*FIGURES, *BY_NUMBER, ALL), help="see above")
    add("--run", type=path, required=True, metavar="DIR", help="output folder, or checkpoint file")
    add("--baseline", type=path, metavar="DIR", help="the same of a run with --increment none")
    add("--output", type=path, metavar="DIR", help="where to write [analysis in the run's folder]")
    add("--checkpoint", metavar="last|best|PATH", help="which one of the run's [last]")
    add("--split", choices=("train", "test"), help="whose pairs [gradients, steps: train; or test]")
    add("--batches", type=count, help="training batches to look at, at most an epoch [8]")
    add("--queries", type=count, help="hard_negatives: how many to show [6]")
    group = parser.add_argument_group("settings that count instead of the checkpoint's")
    for f in SETTINGS:
        add_flag(group, f)
    return parser


def main(argv: list[str] | None = None) -> int:
    """The exit code; a mistake of the user's is printed without a traceback."""
    show_escapes()
    try:
        with deaths_reported():
            return run(build_parser().parse_args(argv))
    except UserError as error:
        complain(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        complain("stopped")
        return 130


def run(args: argparse.Namespace) -> int:
    """Make what was asked for; the exit code.

    Raises:
        UserError: a figure that was asked for by its name cannot be made.
    """
    name = BY_NUMBER.get(args.figure, args.figure)
    flags = {"checkpoint": args.checkpoint, **{flag: getattr(args, flag) for flag in OPTIONAL}}
    asked = {flag: value for flag, value in flags.items() if value is not None}
    settings = {f.name: getattr(args, f.name) for f in SETTINGS}
    given = {setting: value for setting, value in settings.items() if value is not MISSING}
    if name != ALL:
        for flag in sorted({*asked, *given} - FIGURES[name].reads):
            complain(f"warning: --{flag} has no effect on {name}")
    request = Request(run=args.run, given=given, **asked)
    if not args.run.exists():
        raise UserError(f"--run {args.run}: no such folder or file. Name a run's --output_dir.")
    with made_folder(args.output or request.folder / "analysis") as output:
        if name != ALL:
            make(name, request, output)
            return 0
        return make_all(request, output)


@contextmanager
def made_folder(path: Path) -> Iterator[Path]:
    """The folder, made where it is missing; one that was made for nothing is removed again.

    Raises:
        UserError: it cannot be made. That is known before any figure is.
    """
    was_there = path.exists()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--output {path}: cannot be created ({error.strerror}).") from error
    try:
        yield path
    finally:
        if not was_there:
            with suppress(OSError):  # a figure is in it
                path.rmdir()


def make(name: str, request: Request, output: Path) -> None:
    """Make a figure, and say what is in it and where it is."""
    result = FIGURES[name].make(request)
    written = result.write(output)
    lines = [f"{name}:", *(f"  {line}" for line in result.said), *(f"  {path}" for path in written)]
    print("\n".join(map(printable, lines)), flush=True)


def make_all(request: Request, output: Path) -> int:
    """Make every figure that the run has, and say why others are not made; the exit code.

    It is 2 where one failed that the run should have, or none was made.
    """
    made, failed = 0, 0
    for name in FIGURES:
        try:
            make(name, request, output)
            made += 1
        except UserError as error:
            failed += not isinstance(error, Unavailable)
            complain(f"not made: {name}: {error}")
    return 2 if failed or not made else 0


if __name__ == "__main__":
    sys.exit(main())
