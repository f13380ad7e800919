"""An ablation table as Markdown and CSV: ours over seeds, and the paper's numbers beside."""

from __future__ import annotations

import csv
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


@dataclass(frozen=True)
class Line:
    """A row's numbers: mean and standard deviation (None for one seed), and the paper's text."""

    name: str
    mean: dict[str, float]
    deviation: dict[str, float | None]
    paper: dict[str, str]


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
    )


def on_papers_data(run: dict[str, Any]) -> bool:
    """Whether a run was trained and tested on a benchmark's whole default split."""
    default = protocols(run["settings"]["datatype"])[0]
    used = run["settings"]["protocol"] or default
    return run["protocol"]["complete_gallery"] and used == default


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
    """One line a row, with a column each for mean, standard deviation and the paper's number."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        kinds = ("mean", "sd", "paper")
        writer.writerow(["row", *(f"{column} {kind}" for column in COLUMNS for kind in kinds)])
        for item in lines:
            cells = [item.name]
            for column in COLUMNS:
                deviation = item.deviation[column]
                cells.append(f"{item.mean[column]:.4f}")
                cells.append("" if deviation is None else f"{deviation:.4f}")
                cells.append(item.paper.get(column, ""))
            writer.writerow(cells)


def write_markdown(path: Path, lines: list[Line], seeds: list[int], command: str) -> None:
    """Ours, under it the paper's line where it has one, and the command that made the table."""
    rows = [["row", *COLUMNS], ["---"] * (1 + len(COLUMNS))]
    for item in lines:
        rows.append([item.name, *(cell(item, column) for column in COLUMNS)])
        if item.paper:
            rows.append(["(paper)", *(item.paper.get(column, "") for column in COLUMNS)])
    body = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    several = f"mean ± standard deviation over seeds {', '.join(map(str, seeds))}"
    what = several if len(seeds) > 1 else f"seed {seeds[0]}"
    path.write_text(f"Last epoch, {what}.\n\n{body}\n\n    {command}\n", encoding="utf-8")


def cell(item: Line, column: str) -> str:
    deviation = item.deviation[column]
    mean = f"{item.mean[column]:.1f}"
    return mean if deviation is None else f"{mean} ± {deviation:.1f}"
