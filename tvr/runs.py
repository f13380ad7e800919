"""Compare runs: one line for each of the output folders in and below some folders.

    python -m tvr.runs ckpts/                             every run there
    python -m tvr.runs ckpts/a ckpts/b --against ckpts/a  and the difference to a, query by query
    python -m tvr.runs ckpts/ --result best --csv runs.csv

The columns are the numbers of one result (the last epoch, unless --result best) with the split and
the number of videos that they are of, and the settings in which the runs differ.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tvr.rankings import (
    BEST,
    EVALUATED,
    LAST,
    Ranking,
    ranked_result,
    rankings_file,
    read_rankings,
)
from tvr.utils.arguments import path
from tvr.utils.errors import UserError
from tvr.utils.files import write_csv
from tvr.utils.metrics import paired_interval
from tvr.utils.terminal import printable, show_escapes

COLUMNS = [f"{way} {name}" for way in ("t2v", "v2t") for name in ("R@1", "R@5", "R@10", "MnR")]
METRICS = "metrics.json"
# They say where a run is and how it ran, not what it does
PLACES = ("output_dir", "anno_path", "video_path", "frame_cache", "workers", "overwrite", "resume")
MOST_SHOWN = 40  # characters of a setting's value


@dataclass(frozen=True)
class FinishedRun:
    """An output folder with results: what was asked for, and the result that is compared."""

    folder: Path
    settings: dict[str, Any]
    result: dict[str, Any]
    name: str  # of the result: last, best or evaluated
    protocol: dict[str, Any]

    def cells(self) -> dict[str, str]:
        """The columns of this run's numbers, as text."""
        found = {
            "result": str(self.result["label"]),
            "split": str(self.protocol["split"]),
            "videos": str(self.protocol["videos"]),
        }
        for column in COLUMNS:
            direction, metric = column.split()
            found[column] = f"{self.result[direction][metric]:.1f}"
        low, high = self.result["t2v"]["R@1 95%"]
        found["t2v R@1 95 %"] = f"{low:.1f} to {high:.1f}"
        return found

    def rankings(self) -> dict[tuple[str, str], Ranking]:
        """Its rankings by direction and query. Raises UserError where it has none."""
        path = rankings_file(self.folder, self.name)
        try:
            return {(r.direction, r.query): r for r in read_rankings(path)}
        except (OSError, ValueError, csv.Error) as error:
            raise UserError(f"{path}: {error}. --against needs the rankings of both.") from error


def find_runs(folders: list[Path], wanted: str) -> list[FinishedRun]:
    """The runs in and below the folders, in the order of their names.

    Raises:
        UserError: there is none, or one cannot be read.
    """
    found = []
    for folder in folders:
        paths = sorted(folder.rglob(METRICS))
        if not paths:
            raise UserError(f"{folder}: no {METRICS} there or below it. Name output folders.")
        found += [read_run(path.parent, wanted) for path in paths]
    return list({run.folder.resolve(): run for run in found}.values())


def read_run(folder: Path, wanted: str) -> FinishedRun:
    """The result called `wanted` of a training, or that of an evaluation which has rankings.

    Raises:
        UserError: metrics.json is not one that a run has written.
    """
    path = folder / METRICS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        results, settings = content["results"], dict(content["settings"])
        if settings.get("do_train"):
            place = 1 if wanted == BEST and len(results) > 1 else 0
            name = BEST if place else LAST
        else:
            place, name = ranked_result([result["label"] for result in results]), EVALUATED
        run = FinishedRun(folder, settings, results[place], name, content["protocol"])
        run.cells()
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: not what a run writes ({error!r:.200}).") from error
    return run


def differing(runs: list[FinishedRun]) -> list[str]:
    """The settings that all of the runs have, and that are not the same for all.

    An evaluation has none of training's.
    """
    names = sorted(set.intersection(*(set(run.settings) for run in runs)) - set(PLACES))
    return [name for name in names if len({json.dumps(run.settings.get(name)) for run in runs}) > 1]


def against(run: FinishedRun, other: FinishedRun) -> dict[str, str]:
    """By how much R@1 differs from another run's, with the 95 % interval over the queries.

    Raises:
        UserError: they are not of the same queries.
    """
    ours, theirs = run.rankings(), other.rankings()
    if ours.keys() != theirs.keys():
        raise UserError(
            f"{run.folder} and {other.folder} have not the same queries, so they cannot be "
            "compared query by query. Leave --against out."
        )
    found = {}
    for direction in ("t2v", "v2t"):
        keys = [key for key in ours if key[0] == direction]
        hits_Q, others_Q = (np.array([of[key].rank == 1 for key in keys]) for of in (ours, theirs))
        low, high = paired_interval(hits_Q, others_Q)
        difference = 100 * (hits_Q.mean() - others_Q.mean())
        found[f"Δ {direction} R@1"] = f"{difference:+.1f} ({low:+.1f} to {high:+.1f})"
    return found


def rows(runs: list[FinishedRun], other: FinishedRun | None) -> list[tuple[str, ...]]:
    """The table, its header first."""
    settings = differing(runs)
    lines = []
    for run in runs:
        cells = {"run": str(run.folder), **run.cells()}
        if other is not None:
            cells |= against(run, other)
        cells |= {name: f"{run.settings.get(name)}" for name in settings}
        lines.append(cells)
    return [tuple(lines[0]), *(tuple(cells.values()) for cells in lines)]


def as_text(table: list[tuple[str, ...]]) -> str:
    """The table with aligned columns; control characters are shown as escapes, long values cut."""
    shown = [list(map(printable, row)) for row in table]
    shown = [
        [
            row[0],
            *(cell if len(cell) <= MOST_SHOWN else f"{cell[:MOST_SHOWN]}…" for cell in row[1:]),
        ]
        for row in shown
    ]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in shown
    )


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tvr.runs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", nargs="+", type=path, metavar="DIR", help="runs, or above them")
    parser.add_argument("--result", choices=(LAST, BEST), default=LAST, help="of a training [last]")
    parser.add_argument("--against", type=path, metavar="DIR", help="the run to compare with")
    parser.add_argument("--csv", type=path, help="also write the table there")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, or 2 after a mistake of the user's, which is printed without a traceback."""
    args = parse_args(argv)
    show_escapes()
    try:
        runs = find_runs(args.folders, args.result)
        other = None if args.against is None else read_run(args.against, args.result)
        table = rows(runs, other)
        if args.csv is not None:
            write_csv(args.csv, table)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(as_text(table))
    return 0


if __name__ == "__main__":
    sys.exit(main())
