"""What went wrong with videos without ending the run, on its way to the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

NAMED = 10  # files of a kind that are listed, where the run goes on with the right frames


@dataclass(frozen=True)
class Incident:
    """A file that the decoder asked for could not read, and why.

    `read_by` is the decoder that read it instead; None where none could, so that another caption
    took the place of the file's. `lost` decoders hung, crashed or ran out of memory over it, this
    time.
    """

    path: Path
    problem: str
    read_by: str | None = None
    lost: int = 0


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
        """Warnings: the files that could not be read, each once with its reason, and how often."""
        return [*self._read_by_others(), *self._replaced(), *self._lost()]

    def _in_order(self) -> list[Incident]:
        return sorted(self._count, key=lambda incident: str(incident.path))

    def _read_by_others(self) -> list[str]:
        read: dict[str, dict[Path, str]] = {}
        for incident in self._in_order():
            if incident.read_by is not None:
                read.setdefault(incident.read_by, {}).setdefault(incident.path, incident.problem)
        lines = []
        for decoder, problems in read.items():
            first = f"; the first {NAMED}" if len(problems) > NAMED else ""
            lines.append(
                f"read with {decoder}, as the other decoder could not: "
                f"{len(problems):,} videos{first}:"
            )
            lines += list(problems.values())[:NAMED]
        return lines

    def _replaced(self) -> list[str]:
        replaced = [incident for incident in self._in_order() if incident.read_by is None]
        problems: dict[Path, str] = {}
        for incident in replaced:
            problems.setdefault(incident.path, incident.problem)
        drawn = sum(self._count[incident] for incident in replaced)
        head = (
            f"--on_bad_video skip: {drawn:,} captions were replaced, as their videos cannot be "
            f"read; these are {len(problems):,}:"
        )
        return [head, *problems.values()] if problems else []

    def _lost(self) -> list[str]:
        over = {incident.path for incident in self._count if incident.lost}
        lost = sum(incident.lost * n for incident, n in self._count.items())
        line = (
            f"decoders that hung, crashed or ran out of memory, and were replaced: {lost:,}, over "
            f"{len(over):,} videos"
        )
        return [line] if lost else []
