"""Values of command line flags that argparse has no type for, and flags of several commands."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

# bytes, on Linux
LONGEST_NAME, LONGEST_PATH = 255, 4095


def zero_or_one(text: str) -> bool:
    """Read 0 or 1 for argparse."""
    if text not in ("0", "1"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither 0 nor 1")
    return text == "1"


def add_partial_switches(parser: argparse.ArgumentParser) -> None:
    """The flags of a run that accept incomplete data, for commands that only look at the data."""
    for flag, what in (
        ("--allow_partial_gallery", "a gallery that has not the documented size"),
        ("--allow_partial_training", "training videos without a file, left out"),
    ):
        parser.add_argument(
            flag,
            type=zero_or_one,
            nargs="?",
            const=True,
            metavar="0|1",
            default=False,
            help=f"as the run's: accept {what} [0]",
        )


def count(text: str) -> int:
    """Read a whole number >= 1 for argparse."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return value


def rate(text: str) -> float:
    """Read a finite number > 0 for argparse."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text}")
    return value


def seconds(text: str) -> float:
    """Read a finite number >= 0 for argparse."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds, 0 or more, not {text}")
    return value


def port(text: str) -> int:
    """Read the number of a TCP port for argparse; 0 stands for any that is free."""
    value = int(text)
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"must be between 0 and 65535, not {text}")
    return value


def too_long(text: str) -> str | None:
    """Why no file can have this path; None if one can."""
    name = text.encode(errors="surrogatepass")
    if len(name) > LONGEST_PATH:
        return f"a path has {LONGEST_PATH:,} bytes at most"
    if any(len(part) > LONGEST_NAME for part in name.split(b"/")):
        return f"the name of a file has {LONGEST_NAME} bytes at most"
    return None


def path(text: str) -> Path:
    """Read the path of a file or folder for argparse, which need not be there."""
    problem = too_long(text)
    if problem:
        raise argparse.ArgumentTypeError(f"{problem}, not {text[:40]}...")
    return Path(text)
