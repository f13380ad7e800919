"""What went wrong with videos without ending the run, on its way to the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

NAMED = 10  # files that one line names


@dataclass(frozen=True)
class Incident:
    """A file that the decoder asked for could not read, and why.

    `read_by` is the decoder that read it instead; None where none could, so that another caption
    took the place of the file's.
    """

    path: Path
    problem: str
    read_by: str | None = None


class Incidents:
    """Those of some time, counted."""

    def __init__(self) -> None:
        self._count: Counter[Incident] = Counter()

    def add(self, incidents: Iterable[Incident]) -> None:
        """Count further ones."""
        self._count.update(incidents)

    def all(self) -> list[Incident]:
        """Every one, as often as it came."""
        return list(self._count.elements())

    def lines(self) -> list[str]:
        """Warnings: every file that could not be read once, with its reason, and how often."""
        problems: dict[Path, str] = {}
        read: dict[str, list[Path]] = {}
        for incident in sorted(self._count, key=lambda incident: str(incident.path)):
            if incident.read_by is None:
                problems.setdefault(incident.path, incident.problem)
            else:
                read.setdefault(incident.read_by, []).append(incident.path)
        lines = []
        for decoder, paths in read.items():
            names = list(dict.fromkeys(path.name for path in paths))
            rest = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
            lines.append(
                f"read with {decoder}, as the other decoder could not: {len(names):,} videos: "
                f"{', '.join(names[:NAMED])}{rest}"
            )
        if problems:
            drawn = sum(n for incident, n in self._count.items() if incident.read_by is None)
            lines.append(
                f"--on_bad_video skip: {drawn:,} captions were replaced, as their videos cannot be "
                f"read; these are {len(problems):,}:"
            )
            lines += problems.values()
        return lines
