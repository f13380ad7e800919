"""What the benchmarks share: alternating timings, peak memory, tables, and a JSON record."""

from __future__ import annotations

import json
import multiprocessing
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from tvr.utils.logging import commit, environment


def synchronise(device: torch.device) -> None:
    """Wait for the GPU, where there is one."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """How long one call takes."""
    synchronise(device)
    started = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - started


def alternate(
    contenders: Mapping[str, Callable[[], Any]], repeats: int, device: torch.device
) -> dict[str, float]:
    """Median seconds of each contender; they take turns, so that all see the same machine."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, work in contenders.items():
            times[name].append(seconds(work, device))
    return {name: statistics.median(values) for name, values in times.items()}


def peak_mib(prepare: Callable[..., Callable[[], Any]], *arguments: Any) -> float | None:
    """MiB that `prepare(*arguments)()` needs at most beyond what was there before the call.

    In a fresh process, since memory that an earlier run has freed would not be seen again. None
    where the system has no /proc.
    """
    if resident_mib() is None:
        return None
    context = multiprocessing.get_context("forkserver")
    # so that PyTorch is imported once and not in every process
    context.set_forkserver_preload(["torch"])
    with context.Pool(1) as pool:
        return pool.apply(_peak, (prepare, arguments))


def _peak(prepare: Callable[..., Callable[[], Any]], arguments: tuple) -> float:
    work = prepare(*arguments)
    before = resident_mib()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    work()
    peak = resident_mib("VmHWM")
    assert before is not None
    assert peak is not None
    return peak - before


def resident_mib(field: str = "VmRSS", process: int | str = "self") -> float | None:
    """A figure of a process's memory, this one's say, in MiB; None where there is no /proc.

    VmRSS is all of it, VmHWM its peak, RssAnon what is not mapped from a file, RssFile the rest.
    """
    status = Path(f"/proc/{process}/status")
    if not status.exists():
        return None
    lines = (line.split() for line in status.read_text().splitlines())
    return next(int(words[1]) / 1024 for words in lines if words[0] == field + ":")


def table(rows: list[dict[str, Any]]) -> str:
    """Rows with the same keys as Markdown."""
    columns = list(rows[0])
    body = [columns, ["---"] * len(columns), *([shown(row[c]) for c in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in body)


def shown(value: Any) -> str:
    """Three digits are as many as a timing has."""
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def record(path: Path | None, device: torch.device, content: dict[str, Any]) -> None:
    """Write what was measured, with the command and the machine, where a path is given."""
    if path is None:
        return
    program = Path(sys.argv[0]).stem
    facts = {
        "command": shlex.join(["python", "-m", f"benchmarks.{program}", *sys.argv[1:]]),
        "threads": torch.get_num_threads(),
        "commit": commit(),
        "environment": environment(device),
    }
    path.write_text(json.dumps(facts | content, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {path}")
