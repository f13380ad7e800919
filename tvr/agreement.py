"""All processes of a run have to be asked for the same, by the same code, with the same data."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from tvr.config import Config
from tvr.utils.distributed import gather_objects
from tvr.utils.errors import UserError
from tvr.utils.logging import package_versions

# Machines may keep their files in other places, and have more or fewer cores
MAY_DIFFER = (
    *("local_rank", "anno_path", "video_path", "output_dir", "frame_cache", "init_model", "resume"),
    *("workers", "overwrite"),
)


def refuse_other_settings(config: Config) -> None:
    """Raises UserError, on every process, where one has other flags or other code."""
    facts = {f"--{name}": v for name, v in config.public().items() if name not in MAY_DIFFER}
    versions = {f"the version of {name}": v for name, v in package_versions().items()}
    refuse_differences(
        {**facts, "this program's code": code(), "torch": torch.__version__, **versions}
    )


def refuse_differences(facts: dict[str, Any]) -> None:
    """Raises UserError, on every process, where these facts are not the same on all."""
    first, *others = gather_objects(facts)
    problems = [
        f"{name} is {first[name]} for process 0 and {other[name]} for process {rank}"
        for rank, other in enumerate(others, start=1)
        for name in first
        if first[name] != other.get(name)
    ]
    if problems:
        raise UserError(
            f"the processes do not agree: {'; '.join(problems[:8])}. Start all of them with the "
            "same command, code and data."
        )


def code() -> str:
    """A fingerprint of this program's source."""
    found, package = hashlib.sha256(), Path(__file__).parent
    for path in (package.parent / "main_retrieval.py", *sorted(package.rglob("*.py"))):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]
