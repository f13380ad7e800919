"""Runs one of the paper's ablation tables and writes it as Markdown and CSV.

    ANNO_PATH=… VIDEO_PATH=… bash scripts/ablations.sh TABLE [training flags]

The settings are the paper's for the benchmark (--preset paper), then come the training flags, then
those of the row: later ones win. Every number is that of the last epoch. From the environment:

    ANNO_PATH, VIDEO_PATH  folders of annotations and videos, or --anno_path and --video_path
    DATATYPE   benchmark, msrvtt if not set, or --datatype
    SEEDS      "42 43 44" if not set
    OUTPUT     ckpts/ablations/DATATYPE if not set: TABLE.md, TABLE.csv, and the trainings in runs/
    LAUNCHER   "python", or "torchrun --standalone --nproc_per_node=4"
    KEEP=1     keep the checkpoints, which are deleted after each training if not set

A training that has finished is not run again, by an interrupted table or by another one that needs
the same. Tables may run at the same time. The tables with their rows and flags:
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from scripts.ablation_report import line, write_csv, write_markdown
from scripts.ablation_runs import base_flags, plan, refuse_other_flags, train
from scripts.ablation_tables import TABLES, Row, described
from tvr.command_line import parse
from tvr.presets import ALIASES, BENCHMARKS, canonical
from tvr.utils.distributed import uses_gpu
from tvr.utils.errors import UserError

REMEMBERED = ("ANNO_PATH", "VIDEO_PATH", "DATATYPE", "OUTPUT", "LAUNCHER", "KEEP")


@dataclass(frozen=True)
class Request:
    """What the command line and the environment ask for."""

    table: str
    flags: list[str]
    seeds: list[int]
    output: Path
    launcher: list[str]
    keep: bool
    command: str


def main(arguments: list[str]) -> int:
    """Exit code 0, or 2 after a mistake of the user's, which is printed without a traceback."""
    if "--help" in arguments or "-h" in arguments:
        print(f"{__doc__}\n{described()}")
        return 0
    try:
        run(requested(arguments, dict(os.environ)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def requested(arguments: list[str], environment: dict[str, str]) -> Request:
    """The request, checked as far as that is possible before anything is trained.

    Raises:
        UserError: a table, flag, seed or launcher that is not one.
    """
    if not arguments or arguments[0] not in TABLES:
        seen = f"no table {arguments[0]}" if arguments else "no table named"
        raise UserError(f"{seen}: choose one of {', '.join(TABLES)}. --help has more.")
    table, given = arguments[0], arguments[1:]
    asked = parse(given)
    for flag, name in (("seed", "SEEDS"), ("output_dir", "OUTPUT")):
        if flag in asked.given:
            raise UserError(f"--{flag} is decided for every run: set {name} instead.")
    named = asked.datatype if "datatype" in asked.given else environment.get("DATATYPE")
    datatype = canonical(named or "msrvtt")
    if datatype not in BENCHMARKS:
        known = ", ".join([*BENCHMARKS, *ALIASES])
        raise UserError(f"DATATYPE {datatype}: choose one of {known}.")
    base = base_flags(datatype)
    for name in ("ANNO_PATH", "VIDEO_PATH"):
        if environment.get(name):
            base += [f"--{name.lower()}", environment[name]]
    seeds = environment.get("SEEDS", "42 43 44")
    launcher = shlex.split(environment.get("LAUNCHER", "").strip() or sys.executable)
    if shutil.which(launcher[0]) is None:
        raise UserError(f"LAUNCHER={environment['LAUNCHER']}: there is no program {launcher[0]}.")
    flags = [*base, *given]
    remembered = [f"{n}={shlex.quote(environment[n])}" for n in REMEMBERED if environment.get(n)]
    command = [*remembered, f'SEEDS="{seeds}"', "bash scripts/ablations.sh", table]
    return Request(
        table,
        flags,
        read_seeds(seeds),
        Path(environment.get("OUTPUT") or f"ckpts/ablations/{datatype}"),
        launcher,
        environment.get("KEEP") == "1",
        " ".join([*command, shlex.join(given)]).rstrip(),
    )


def read_seeds(text: str) -> list[int]:
    """Raises UserError unless they are different whole numbers, at least one."""
    seeds = text.split()
    if not seeds or not all(seed.isdecimal() for seed in seeds):
        raise UserError(f'SEEDS="{text}": give whole numbers, for instance SEEDS="42 43 44".')
    if len(set(map(int, seeds))) < len(seeds):
        raise UserError(f'SEEDS="{text}": a seed is there twice, which would count it twice.')
    return [int(seed) for seed in seeds]


def possible_rows(request: Request) -> list[Row]:
    """The table's rows without those that need a GPU where none is used, which is printed."""
    on_gpu = uses_gpu(parse(request.flags).device)
    rows = TABLES[request.table]
    for row in rows:
        if row.gpu_only and not on_gpu:
            print(f"{row.name}: left out, it needs a GPU", flush=True)
    return [row for row in rows if on_gpu or not row.gpu_only]


def run(request: Request) -> None:
    """Train what is missing, and write the table again after every row."""
    rows = {
        row: [
            plan(request.flags, row.flags.split(), seed, request.output) for seed in request.seeds
        ]
        for row in possible_rows(request)
    }
    for trainings in rows.values():
        for training in trainings:
            refuse_other_flags(training)
    lines = []
    markdown = request.output / f"{request.table}.md"
    for row, trainings in rows.items():
        for seed, training in zip(request.seeds, trainings, strict=True):
            print(f"{row.name}, seed {seed}", flush=True)
            train(training, request.launcher, request.keep)
        lines.append(line(request.table, row, [training.results() for training in trainings]))
        write_csv(markdown.with_suffix(".csv"), lines)
        write_markdown(markdown, lines, request.seeds, request.command)
    print(f"\n{markdown.read_text(encoding='utf-8')}\n{markdown}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
