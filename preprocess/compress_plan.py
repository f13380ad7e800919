"""Which videos compress_video.py has to make: sources, outputs, and the settings on record."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ffmpeg_tools import UserError, write_text

# Those that training finds as well; they are listed again in tvr/dataloaders/videos.py
VIDEO_SUFFIXES = frozenset(
    (
        *("mp4", "avi", "mkv", "webm", "mov", "mpg", "mpeg", "3gp", "3g2", "wmv", "asf"),
        *("m4v", "flv", "ts", "mts", "m2ts", "ogv"),
    )
)
SETTINGS_NAME = "compress_settings.json"


@dataclass(frozen=True)
class Settings:
    """What decides an output's content: frames per second, and the short side in pixels."""

    fps: float
    short_side: int

    def __str__(self) -> str:
        return f"--fps {self.fps:g} --short_side {self.short_side}"


@dataclass(frozen=True)
class Job:
    """One video to make. `relative` is the source's path under the input root."""

    relative: str
    source: Path
    output: Path

    def is_finished(self) -> bool:
        """Whether the output is there and not older than its source.

        Outputs get their name only after they were checked, so being there is enough.
        """
        try:
            made = self.output.stat()
            return self.output.is_file() and made.st_mtime_ns >= self.source.stat().st_mtime_ns
        except OSError:
            return False


def check_roots(input_root: Path, output_root: Path) -> None:
    """Raise UserError unless the two are separate folders and the input is there."""
    if not input_root.is_dir():
        raise UserError(f"--input_root {input_root}: no such folder")
    if output_root.exists() and not output_root.is_dir():
        raise UserError(f"--output_root {output_root}: this is a file; name a folder")
    source, target = input_root.resolve(), output_root.resolve()
    if source == target:
        raise UserError(f"--output_root is --input_root ({source}); name another folder")
    if source in target.parents:
        raise UserError(f"--output_root {target} lies inside --input_root {source}; name another")
    if target in source.parents:
        raise UserError(f"--input_root {source} lies inside --output_root {target}; name another")


def output_name(name: str) -> str | None:
    """Return the .mp4 name for a source's file name, or None where it is not a video's name.

    A name that ends in a bare dot counts as a video.
    """
    stem, _, suffix = name.rpartition(".")
    if not stem:
        return None
    if suffix and suffix.lower() not in VIDEO_SUFFIXES:
        return None
    return f"{stem}.mp4"


def _refuse_folder(error: OSError) -> None:
    raise UserError(f"--input_root: cannot list {error.filename}: {error.strerror}")


def _files(root: Path) -> Iterator[Path]:
    """Yield the files under `root`, without hidden ones; linked folders are followed."""
    seen = {os.path.realpath(root)}
    for folder, subfolders, names in os.walk(root, onerror=_refuse_folder, followlinks=True):
        kept = []
        for subfolder in sorted(subfolders):
            real = os.path.realpath(os.path.join(folder, subfolder))
            # A link back to a folder already walked would never end.
            if not subfolder.startswith(".") and real not in seen:
                seen.add(real)
                kept.append(subfolder)
        subfolders[:] = kept
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def find_jobs(input_root: Path, output_root: Path) -> tuple[list[Job], Counter[str]]:
    """List every video under `input_root`, sorted by path, and count the other files.

    Those are counted by extension, hidden ones not at all. Raises UserError where there is no
    video, a folder cannot be listed, or two sources would have the same output.
    """
    source_root, target_root = input_root.resolve(), output_root.resolve()
    jobs: dict[Path, Job] = {}
    passed_over: Counter[str] = Counter()
    for source in _files(source_root):
        target_name = output_name(source.name)
        if target_name is None:
            passed_over[source.suffix.lower() or "no extension"] += 1
            continue
        relative = source.relative_to(source_root)
        job = Job(str(relative), source, target_root / relative.with_name(target_name))
        other = jobs.setdefault(job.output, job)
        if other is not job:
            raise UserError(
                f"--input_root: {other.relative!r} and {job.relative!r} would both become "
                f"{str(relative.with_name(target_name))!r}; rename or move one of them"
            )
    if not jobs:
        kinds = ", ".join(f".{suffix}" for suffix in sorted(VIDEO_SUFFIXES))
        there = f"; there: {listed(passed_over)}" if passed_over else ""
        raise UserError(f"--input_root {input_root}: no videos found (looked for {kinds}{there})")
    return sorted(jobs.values(), key=lambda job: job.relative), passed_over


def listed(passed_over: Counter[str]) -> str:
    """The files that are no videos by their names, such as "3 .txt, 1 no extension"."""
    return ", ".join(f"{number} {kind}" for kind, number in passed_over.most_common())


def _recorded(path: Path) -> Settings | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        return Settings(fps=float(record["fps"]), short_side=int(record["short_side"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); delete it and use --overwrite, or another folder"
        ) from error


def settle_settings(output_root: Path, settings: Settings, jobs: list[Job], redo: bool) -> None:
    """Put `settings` on record in `output_root`, or refuse to mix them with other ones.

    With `redo`, outputs of other settings are deleted before the new ones go on record: a run
    killed halfway then leaves nothing that a later one could take for its own.
    """
    path = output_root / SETTINGS_NAME
    recorded = _recorded(path)
    if recorded == settings:
        return
    stale = [job.output for job in jobs if job.output.is_file()]
    if not redo and recorded is not None:
        raise UserError(
            f"--output_root {output_root} holds videos made with {recorded}, and {settings} is "
            "asked now; name another folder, or redo them all with --overwrite"
        )
    if not redo and stale:
        raise UserError(
            f"--output_root {output_root} holds {stale[0].name!r} but no {SETTINGS_NAME}, so how "
            "it was made is not known; name another folder, or redo all with --overwrite"
        )
    for output in stale:
        output.unlink()
    write_text(path, json.dumps(asdict(settings)) + "\n")
