"""Runs one of the paper's ablation tables and writes it as Markdown and CSV.

    bash scripts/ablations.sh TABLE --anno_path … --video_path … [more training flags]

Environment: SEEDS ("42 43 44"), OUTPUT (ckpts/ablations/TABLE), LAUNCHER ("python", or
"torchrun --standalone --nproc_per_node=4"). A run that has finished is not run again, so an
interrupted table continues. Every number is that of the last epoch.
"""

from __future__ import annotations

import csv
import json
import os
import shlex
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

MAIN = Path(__file__).parent.parent / "main_retrieval.py"
NO_LOSSES = "--beta 0 --lambda_epsilon 0 --lambda_dir 0"


@dataclass(frozen=True)
class Row:
    """One line of a table: what it is called, its flags, the paper's MSR-VTT t2v R@1 if given."""

    name: str
    flags: str = ""
    paper: float | None = None


TABLES = {
    "loss": [
        Row("baseline", "--increment none", 46.6),
        Row("Δ alone", NO_LOSSES, 47.4),
        Row("Δ + IB", "--lambda_epsilon 0 --lambda_dir 0", 48.3),
        Row("Δ + radius", "--beta 0 --lambda_dir 0"),
        Row("Δ + direction", "--beta 0 --lambda_epsilon 0"),
        Row("all", "", 49.1),
    ],
    "context": [
        Row("text, words, η −1", "--correct text --context words --eta -1", 46.6),
        Row("text, words, η +1", "--correct text --context words --eta 1", 48.2),
        Row("text, frames, η −1", "--correct text --context frames --eta -1", 47.8),
        Row("text, frames, η +1", "--correct text --context frames --eta 1", 49.1),
        Row("video, frames, η −1", "--correct video --context frames --eta -1", 47.7),
        Row("video, frames, η +1", "--correct video --context frames --eta 1", 47.5),
        Row("video, words, η −1", "--correct video --context words --eta -1", 48.2),
        Row("video, words, η +1", "--correct video --context words --eta 1", 48.8),
    ],
    "query": [Row("gap", "--query gap", 49.1), Row("text", "--query text", 46.1)],
    "anchor": [Row("text", "--kl_anchor text", 47.9), Row("video", "--kl_anchor video", 49.1)],
    "prior": [
        Row("σ₀ 0.1", "--kl_prior 0.1", 47.7),
        Row("σ₀ 1", "--kl_prior 1", 49.1),
        Row("σ₀ 10", "--kl_prior 10", 48.1),
        Row("σ₀ 100", "--kl_prior 100", 48.6),
        Row("σ₀ 1, Δ of length 1", "--kl_prior 1 --kl_normalize 1", 47.8),
    ],
    "alpha": [
        Row("α 0.5", "--alpha 0.5", 47.6),
        Row("α 1", "--alpha 1", 48.5),
        Row("α 2", "--alpha 2", 49.1),
        Row("α 3", "--alpha 3", 46.2),
        Row("α 4", "--alpha 4", 47.0),
        Row("α 5", "--alpha 5", 47.2),
        Row("orthogonal", "--dir_form orthogonal", 47.7),
    ],
    "lambda": [
        Row("λ 0.1", "--lambda_lower 0.1"),
        Row("λ 0.5", "--lambda_lower 0.5", 49.1),
        Row("λ 1", "--lambda_lower 1"),
        Row("λ 0.5, smooth", "--lambda_lower 0.5 --epsilon_form smooth"),
    ],
}


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] not in TABLES:
        print(f"usage: ablations.sh TABLE [training flags]; tables: {', '.join(TABLES)}")
        return 2
    table, shared = arguments[0], arguments[1:]
    seeds = os.environ.get("SEEDS", "42 43 44").split()
    output = Path(os.environ.get("OUTPUT", f"ckpts/ablations/{table}"))
    lines = []
    for number, row in enumerate(TABLES[table]):
        results = [run(output / f"{number}-seed{seed}", row, seed, shared) for seed in seeds]
        lines.append(line(row, results))
        write(output, table, lines, shared, seeds)
    print((output / f"{table}.md").read_text())
    return 0


def run(folder: Path, row: Row, seed: str, shared: list[str]) -> dict:
    """Train one row with one seed, unless that has been done; returns its metrics.json."""
    if not (folder / "metrics.json").exists() or not (folder / "finished").exists():
        launcher = shlex.split(os.environ.get("LAUNCHER", sys.executable))
        own = [*shlex.split(row.flags), "--seed", seed, "--output_dir", str(folder)]
        print(f"{row.name}, seed {seed}", flush=True)
        flags = ["--do_train", "1", "--overwrite", "1", *shared, *own]
        subprocess.run([*launcher, str(MAIN), *flags], check=True, stdout=subprocess.DEVNULL)
        (folder / "finished").touch()
    return json.loads((folder / "metrics.json").read_text())


def line(row: Row, results: list[dict]) -> dict[str, str]:
    """A table line: mean ± standard deviation over seeds, the paper's number on its own data."""
    cells = {"row": row.name}
    for direction in ("t2v", "v2t"):
        for metric in ("R@1", "R@5", "MnR"):
            values = [result["results"][0][direction][metric] for result in results]
            spread = statistics.stdev(values) if len(values) > 1 else float("nan")
            cells[f"{direction} {metric}"] = f"{statistics.mean(values):.1f} ± {spread:.1f}"
    protocol = results[0]["protocol"]
    papers = protocol["split"] == "msrvtt 9k test" and protocol["complete_gallery"]
    if papers:
        cells["paper t2v R@1"] = "" if row.paper is None else f"{row.paper}"
    return cells


def write(
    output: Path, table: str, lines: list[dict[str, str]], shared: list[str], seeds: list[str]
) -> None:
    """TABLE.csv and TABLE.md with the command that made them."""
    columns = list(lines[0])
    with (output / f"{table}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(lines)
    command = f'SEEDS="{" ".join(seeds)}" bash scripts/ablations.sh {table} {shlex.join(shared)}'
    rows = [columns, ["---"] * len(columns), *([cells[c] for c in columns] for cells in lines)]
    body = "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
    text = f"Last epoch, mean ± standard deviation over seeds {', '.join(seeds)}.\n\n{body}\n\n"
    (output / f"{table}.md").write_text(f"{text}    {command}\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
