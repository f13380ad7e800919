"""An ablation table as Markdown and CSV: ours over seeds, and the paper's numbers beside."""

from __future__ import annotations

import csv
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.ablation_runs import DEFAULT, base_flags, slug
from scripts.ablation_tables import Row
from tvr.dataloaders.benchmarks import protocols
from tvr.presets import canonical

PUBLISHED = Path(__file__).with_name("published.csv")
COLUMNS = [
    f"{way} {name}" for way in ("t2v", "v2t") for name in ("R@1", "R@5", "R@10", "MdR", "MnR")
]
# Whose differences to the first row are in the Markdown
PAIRED = ("t2v R@1", "v2t R@1")
# 97.5 % quantiles of Student's t by degrees of freedom, from 1; for more of them the last is wide
T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)


@dataclass(frozen=True)
class Line:
    """A row's numbers: mean and standard deviation (None for one seed), and the paper's text.

    `values` has the numbers of every seed.
    """

    name: str
    mean: dict[str, float]
    deviation: dict[str, float | None]
    paper: dict[str, str]
    values: dict[str, list[float]]


def line(table: str, row: Row, runs: list[dict[str, Any]]) -> Line:
    """The numbers of one row after the last epoch, from the metrics.json of every seed."""
    values = {}
    for column in COLUMNS:
        direction, metric = column.split()
        values[column] = [run["results"][0][direction][metric] for run in runs]
    return Line(
        row.name,
        {column: statistics.mean(v) for column, v in values.items()},
        {column: statistics.stdev(v) if len(v) > 1 else None for column, v in values.items()},
        published(runs[0]["settings"]["datatype"], table, row) if on_papers_data(runs[0]) else {},
        values,
    )


def paired(item: Line, first: Line, column: str) -> tuple[float, float] | None:
    """The mean difference to the first row's number, seed by seed, and half of its 95 % interval.

    Student's t over the seeds; None for one seed. What a seed decides for both rows, such as the
    order of the captions, does not widen it.
    """
    pairs = zip(item.values[column], first.values[column], strict=True)
    differences = [ours - theirs for ours, theirs in pairs]
    count = len(differences)
    if count < 2:
        return None
    quantile = T_QUANTILES[min(count - 1, len(T_QUANTILES)) - 1]
    half = quantile * statistics.stdev(differences) / math.sqrt(count)
    return statistics.mean(differences), half


def on_papers_data(run: dict[str, Any]) -> bool:
    """Whether a run was trained and tested on a benchmark's whole default split.

    Another data set in the benchmark's format may have a gallery of the same size.
    """
    default = protocols(run["settings"]["datatype"])[0]
    used = run["settings"]["protocol"] or default
    protocol = run["protocol"]
    complete = protocol["complete_gallery"] and protocol.get("complete_training", False)
    return complete and used == default


def published(datatype: str, table: str, row: Row) -> dict[str, str]:
    """What the paper reports for a row on a benchmark, by column; empty if nothing."""
    datatype = canonical(datatype)
    with PUBLISHED.open(newline="", encoding="utf-8") as file:
        numbers = {(r["datatype"], r["table"], r["row"]): r for r in csv.DictReader(file)}
    found = numbers.get((datatype, table, row.name))
    if found is None and slug(row.flags.split(), base_flags(datatype)) == DEFAULT:
        found = numbers.get((datatype, "", "GARE"))
    return {column: found[column] for column in COLUMNS if found[column]} if found else {}


def write_csv(path: Path, lines: list[Line]) -> None:
    """One line a row, with a column each for mean, standard deviation and the paper's number.

    Last come the differences to the first row, of which the Markdown has those in R@1.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        kinds = ("mean", "sd", "paper")
        header = [f"{column} {kind}" for column in COLUMNS for kind in kinds]
        header += [f"{column} {kind}" for column in COLUMNS for kind in ("difference", "±")]
        writer.writerow(["row", *header])
        for item in lines:
            cells = [item.name]
            for column in COLUMNS:
                deviation = item.deviation[column]
                cells.append(f"{item.mean[column]:.4f}")
                cells.append("" if deviation is None else f"{deviation:.4f}")
                cells.append(item.paper.get(column, ""))
            for column in COLUMNS:
                found = paired(item, lines[0], column)
                cells += ["", ""] if found is None else [f"{number:.4f}" for number in found]
            writer.writerow(cells)


def write_markdown(path: Path, lines: list[Line], seeds: list[int], command: str) -> None:
    """Ours, under it the paper's line where it has one, and the command that made the table."""
    several = len(seeds) > 1
    differences = [f"Δ {column}" for column in PAIRED] if several else []
    rows = [["row", *COLUMNS, *differences]]
    rows.append(["---"] * len(rows[0]))
    for item in lines:
        found = [difference(item, lines[0], column) for column in PAIRED if several]
        rows.append([item.name, *(cell(item, column) for column in COLUMNS), *found])
        if item.paper:
            told = [item.paper.get(column, "") for column in COLUMNS]
            rows.append(["(paper)", *told, *("" for _ in differences)])
    body = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    what = f"seed {seeds[0]}"
    if several:
        what = (
            f"mean ± standard deviation over seeds {', '.join(map(str, seeds))}. Δ: difference to "
            "the first row, seed by seed, with its 95 % interval (Student's t)"
        )
    path.write_text(f"Last epoch, {what}.\n\n{body}\n\n    {command}\n", encoding="utf-8")


def difference(item: Line, first: Line, column: str) -> str:
    """The paired difference to the first row; nothing for that row itself."""
    found = None if item is first else paired(item, first, column)
    return "" if found is None else f"{found[0]:+.1f} ± {found[1]:.1f}"


def cell(item: Line, column: str) -> str:
    deviation = item.deviation[column]
    mean = f"{item.mean[column]:.1f}"
    return mean if deviation is None else f"{mean} ± {deviation:.1f}"
