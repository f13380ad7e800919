"""The data doctor: would training and evaluation accept these files, and if not, why?

    python -m tvr.dataloaders.check --datatype X --anno_path A --video_path V [--decode]

It needs no GPU and changes nothing but its CSV. Exit code: 0 if training and evaluation would be
accepted, 1 if one would be refused, 2 for a command that cannot be carried out.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

from tvr.dataloaders.benchmarks import (
    DATATYPES,
    NAMED_IDS,
    SPLITS,
    check_folders,
    first_few,
    has_validation,
    protocols,
)
from tvr.dataloaders.examine import (
    Data,
    Header,
    SplitReport,
    differences,
    examine,
    unannotated,
)
from tvr.dataloaders.frames import DECODERS
from tvr.dataloaders.videos import find_videos, stem
from tvr.utils.arguments import add_partial_switches, count, path, rate
from tvr.utils.errors import UserError
from tvr.utils.files import write_csv

DEFAULT_CSV = Path("data_check.csv")
COLUMNS = ("split", "video_id", "place", "problem")
# Which splits a run loads; those that a protocol does not have fall away
LOADED = {"training": SPLITS, "evaluation": ("test",)}


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--datatype", choices=tuple(DATATYPES), required=True, help="benchmark")
    add("--protocol", help="which of the benchmark's splits [its first]")
    add("--anno_path", type=path, required=True, help="folder of annotation files")
    add("--video_path", type=path, required=True, help="folder of videos")
    add("--decode", action="store_true", help="decode every video as a run would")
    add("--csv", type=path, help=f"list of differences [{DEFAULT_CSV}, if there are any]")
    add_partial_switches(parser)
    add("--workers", type=count, default=os.cpu_count() or 1, help="videos at a time [cores]")
    add("--framerate", type=rate, default=1.0, help="as the run's --video_framerate [1]")
    add("--max_frames", type=count, default=12, help="as the run's [12]")
    add("--video_decoder", choices=DECODERS, default=DECODERS[0], help="as the run's [decord]")
    args = parser.parse_args(argv)
    args.protocol = args.protocol or protocols(args.datatype)[0]
    return args


def main(argv: list[str] | None = None) -> int:
    """The exit code; a mistake of the user's is printed without a traceback."""
    args = vars(parse_args(argv))
    try:
        return run(args.pop("csv"), Data(**args))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def run(named_csv: Path | None, data: Data) -> int:
    """Check every split, print the report and write the differences; 0 if all is accepted.

    Raises UserError for a command that cannot be carried out; a problem of the data is reported.
    """
    offered = protocols(data.datatype)
    if data.protocol not in offered:
        raise UserError(
            f"--protocol {data.protocol}: {data.datatype} has {', '.join(offered)}. Use one."
        )
    check_folders(data.anno_path, data.video_path)
    # Decoding may take hours: find out now whether the result can be written
    target = named_csv or DEFAULT_CSV
    if target.is_dir() or not os.access(target.parent, os.W_OK | os.X_OK):
        raise UserError(
            f"--csv {target}: cannot be written there. Name a file in a folder of yours."
        )
    index = find_videos(data.video_path)
    annotations = sorted(p.name for p in data.anno_path.iterdir() if p.is_file())
    print(f"{data.datatype}, protocol {data.protocol}")
    print(f"files in {data.anno_path}: {_named(annotations)}")
    reports = []
    for name in SPLITS:
        if name != "val" or has_validation(data.datatype, data.protocol):
            reports.append(examine(data, name, index))
            print_split(reports[-1])
    stray = unannotated(index, reports)
    accepted = print_total(reports, stray, data.decode)
    rows = [row for report in reports for row in differences(report, data.anno_path)]
    rows += [("", stem(path.name), str(path), "nobody annotated it") for path in stray]
    if rows or named_csv:
        write_csv(target, [COLUMNS, *rows])
    print(f"differences: {len(rows):,}" + (f", listed in {target}" if rows or named_csv else ""))
    return 0 if accepted else 1


def print_split(report: SplitReport) -> None:
    """The report of one split."""
    print(f"\n{report.name}")
    print_files(report)
    annotated = report.annotated
    if annotated is None:
        if not report.missing_files():
            print(f"  annotations: {_printable(str(report.refusal))}")
        return
    counts = (
        ("ids", len(annotated.video_ids), annotated.documented_videos),
        ("captions", len(annotated.captions), annotated.documented_captions),
    )
    for what, found, documented in counts:
        expected = "" if documented is None else f", documented {documented:,}"
        print(f"  {what}: {found:,}{expected}")
    for reason, rows in annotated.left_out_counts().items():
        print(f"  left out: {rows:,} {reason}")
    print(f"  videos: {len(report.clips):,} found, {_named(report.missing)} missing")
    if report.others:
        first, (other, *_) = next(iter(report.others.items()))
        used = next(clip.path for clip in report.clips if clip.video_id == first)
        print(f"  several files: {_named(list(report.others))}")
        print(f"    {_printable(f'{used} is used, not {other}')}")
    print(f"  unreadable: {_named(list(report.unreadable))}")
    for reason in list(report.unreadable.values())[:NAMED_IDS]:
        print(f"    {_printable(reason)}")
    statistics: tuple[tuple[str, Callable[[Header], float | None]], ...] = (
        ("seconds", lambda header: header.seconds),
        ("fps", lambda header: header.fps),
        ("width", lambda header: header.width),
        ("height", lambda header: header.height),
        ("megabytes", lambda header: header.megabytes),
    )
    for what, get in statistics:
        values = [value for value in map(get, report.headers) if value is not None]
        if values:
            low, middle, high = min(values), median(values), max(values)
            print(f"  {what}: min {low:.4g}, median {middle:.4g}, max {high:.4g}")


def print_files(report: SplitReport) -> None:
    """The annotation files of one split: which are read, and which are missing."""
    rows = {} if report.annotated is None else report.annotated.rows
    choices = {path.name: names for names, path in report.files.items() if path is not None}
    for name in {**choices, **rows}:
        size = f", {rows[name]:,} rows" if name in rows else ""
        names = choices.get(name, ())
        choice = f" (the first there of {', '.join(names)})" if len(names) > 1 else ""
        print(f"  annotation file: {name}{size}{choice}")
    for missing in report.missing_files():
        print(f"  annotation file missing: {missing}")


def print_total(reports: list[SplitReport], stray: list[Path], decode: bool) -> bool:
    """What concerns all splits, and the verdicts; True if both runs would be accepted."""
    unknown = [report.name for report in reports if report.annotated is None]
    names = [path.name for path in stray]
    strays = f"not known without the {' and '.join(unknown)} list" if unknown else _named(names)
    print(f"\nvideo files that nobody annotated: {strays}")
    found, missing, unreadable = (
        sum(len(getattr(report, what)) for report in reports)
        for what in ("clips", "missing", "unreadable")
    )
    print(f"total: {found:,} videos found, {missing:,} missing, {unreadable:,} unreadable")
    if not decode:
        print("The videos were not decoded: only --decode finds all that are damaged.")
    accepted = True
    for purpose, splits in LOADED.items():
        reasons = [why for report in reports if report.name in splits for why in report.refusals()]
        for reason in reasons:
            print(f"{purpose}: refused: {_printable(reason)}")
        if not reasons:
            print(f"{purpose}: accepted")
        accepted = accepted and not reasons
    return accepted


def _named(names: list[str]) -> str:
    """How many, and the first of them."""
    return f"{len(names):,}" + (f" ({_printable(first_few(names))})" if names else "")


def _printable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


if __name__ == "__main__":
    sys.exit(main())
