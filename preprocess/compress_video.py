"""Compress a folder of videos for training: few frames per second, a small short side.

Each video found under --input_root becomes an .mp4 (H.264, yuv420p, no sound) at the same place
under --output_root. A run can be stopped and started again at any time: what is finished is
kept. Exit code: 0 when all are fine, 1 when some failed (see compress_report.csv), 2 for a
command that cannot be carried out.
"""

import argparse
import csv
import io
import os
import signal
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import cv2
from compress_one import Children, Result, compress_one
from compress_plan import Job, Settings, check_roots, find_jobs, listed, settle_settings
from ffmpeg_tools import (
    UserError,
    exit_code,
    find_ffmpeg,
    positive_float,
    positive_int,
    remove_leftovers,
    write_text,
)
from tqdm import tqdm

REPORT_NAME = "compress_report.csv"


def even_pixels(text: str) -> int:
    """Read an even number of pixels >= 2 for argparse (4:2:0 video has even sides)."""
    value = positive_int(text)
    if value % 2:
        raise argparse.ArgumentTypeError(f"must be even, not {text}")
    return value


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input_root", type=Path, required=True, help="folder of source videos")
    parser.add_argument("--output_root", type=Path, required=True, help="folder for the results")
    parser.add_argument("--fps", type=positive_float, default=3.0, help="frames per second [3]")
    parser.add_argument(
        "--short_side", type=even_pixels, default=224, help="pixels of the short side [224]"
    )
    parser.add_argument(
        "--workers",
        type=positive_int,
        default=os.cpu_count() or 1,
        help="videos at a time [one per core]",
    )
    parser.add_argument("--overwrite", action="store_true", help="redo finished videos too")
    parser.add_argument(
        "--timeout", type=positive_float, default=1800.0, help="seconds for one video [1800]"
    )
    return parser.parse_args(argv)


def prepare(args: argparse.Namespace, settings: Settings) -> list[Job]:
    """Check the folders and list what is to do; leave `output_root` ready for a run."""
    check_roots(args.input_root, args.output_root)
    jobs, passed_over = find_jobs(args.input_root, args.output_root)
    try:
        args.output_root.mkdir(parents=True, exist_ok=True)
        remove_leftovers(args.output_root)
        settle_settings(args.output_root, settings, jobs, redo=args.overwrite)
    except OSError as error:
        raise UserError(f"--output_root {args.output_root}: {error}") from error
    if passed_over:
        print(f"passed over, no videos by their names: {listed(passed_over)}", flush=True)
    return jobs


def compress_all(jobs: list[Job], args: argparse.Namespace, settings: Settings) -> list[Result]:
    """Compress what is not finished; return one result for each job, in order.

    On Ctrl-C the running ffmpeg processes are ended before the exception goes on.
    """
    ffmpeg, children, results = find_ffmpeg(), Children(), {}
    for job in jobs:
        if not args.overwrite and job.is_finished():
            sizes = job.source.stat().st_size, job.output.stat().st_size
            results[job.relative] = Result(job.relative, "skipped", "", *sizes)
    executor = ThreadPoolExecutor(args.workers)
    try:
        futures = [
            executor.submit(compress_one, job, settings, ffmpeg, args.timeout, children)
            for job in jobs
            if job.relative not in results
        ]
        with tqdm(
            total=len(jobs), initial=len(results), desc="compress", unit="video", disable=None
        ) as bar:
            for future in as_completed(futures):
                result = future.result()
                results[result.path] = result
                if result.status == "failed":
                    bar.write(f"failed: {result.path}: {result.reason}", file=sys.stderr)
                bar.update()
    except BaseException:
        children.stop()
        raise
    finally:
        executor.shutdown(cancel_futures=True)
    return [results[job.relative] for job in jobs]


def report(results: list[Result], path: Path) -> None:
    """Write the table of results as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", "status", "reason", "source_bytes", "output_bytes"])
    for row in results:
        writer.writerow([row.path, row.status, row.reason, row.source_bytes, row.output_bytes])
    write_text(path, text.getvalue())


def run(args: argparse.Namespace) -> int:
    """Do the whole job; return the exit code."""
    settings = Settings(fps=args.fps, short_side=args.short_side)
    results = compress_all(prepare(args, settings), args, settings)
    report_path = args.output_root / REPORT_NAME
    try:
        report(results, report_path)
    except OSError as error:
        raise UserError(f"--output_root {args.output_root}: {error}") from error
    count = Counter(result.status for result in results)
    fine = [result for result in results if result.status != "failed"]
    before = sum(result.source_bytes for result in fine) / 1e6
    after = sum(result.output_bytes for result in fine) / 1e6
    print(
        f"{count['done']} compressed, {count['skipped']} already there, {count['failed']} failed; "
        f"{before:.1f} MB became {after:.1f} MB; report: {report_path}"
    )
    return 1 if count["failed"] else 0


def main(argv: list[str] | None = None) -> int:
    """Run the script."""
    args = parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # OpenCV's own log would repeat, without a file's name, what is reported per file here.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.setLogLevel(0)
    return exit_code("compress_video.py", lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
