"""The settings of every benchmark: the one place that all scripts take them from.

    python -m scripts.settings training|release|zero-shot DATATYPE

prints flags for main_retrieval.py on one line. Flags that follow them on a command line win.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass

from tvr.utils.errors import UserError


@dataclass(frozen=True)
class Benchmark:
    """What differs between the benchmarks."""

    max_words: int
    max_frames: int
    epochs: int
    correct: str
    context: str


SHORT_CLIPS = Benchmark(32, 12, 5, "text", "frames")
BENCHMARKS = {
    "msrvtt": SHORT_CLIPS,
    "msvd": SHORT_CLIPS,
    "didemo": Benchmark(64, 64, 5, "text", "frames"),
    "activity": Benchmark(64, 64, 10, "video", "words"),
    # Not in the paper; these settings are our choice
    "lsmdc": SHORT_CLIPS,
    "vatex": SHORT_CLIPS,
}
ALIASES = {"activitynet": "activity"}

# The paper's for all benchmarks. β is left to its default, which depends on --kl.
INPUT = "--base_encoder ViT-B/32 --video_framerate 1 --temp 3 --batch_size_val 128 --workers 8"
TRAINING = (
    "--lr 1e-4 --coef_lr 1e-3 --batch_size 128 --n_display 50 "
    "--alpha 2 --lambda_dir 0.01 --lambda_epsilon 0.01 --lambda_lower 0.5"
)


def canonical(datatype: str) -> str:
    """The one name of a benchmark; raises UserError where there is no such benchmark."""
    name = ALIASES.get(datatype, datatype)
    if name not in BENCHMARKS:
        known = ", ".join([*BENCHMARKS, *ALIASES])
        raise UserError(f"DATATYPE {datatype}: choose one of {known}.")
    return name


def settings(purpose: str, datatype: str) -> list[str]:
    """The flags of a benchmark for "training", or for evaluating what carries no settings itself:
    a checkpoint of the authors' "release", or CLIP alone, "zero-shot".

    Raises:
        UserError: no such benchmark.
    """
    name = canonical(datatype)
    own = asdict(BENCHMARKS[name])
    used = {
        "training": tuple(own),
        "release": ("max_words", "max_frames", "correct", "context"),
        "zero-shot": ("max_words", "max_frames"),
    }[purpose]
    flags = ["--datatype", name, *INPUT.split()]
    for flag in used:
        flags += [f"--{flag}", str(own[flag])]
    shared = {"training": TRAINING, "release": "--padding release", "zero-shot": ""}[purpose]
    return flags + shared.split()


if __name__ == "__main__":
    try:
        print(*settings(*sys.argv[1:]))
    except UserError as error:
        sys.exit(f"error: {error}")
