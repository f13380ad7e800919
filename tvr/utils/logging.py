"""Where messages go: the main process's terminal and its log file; other ranks are silent."""

from __future__ import annotations

import logging
import os
import platform
import resource
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from tqdm import tqdm

from tvr.utils.files import unwritable

LOGGER_NAME, LOG = "tvr", "log.txt"


class TerminalHandler(logging.Handler):
    """Prints above a running progress bar instead of through it.

    Where nothing can be printed any more, as into a pipe whose reader is gone, a run goes on
    without: log.txt has every line.
    """

    def emit(self, record: logging.LogRecord) -> None:
        # a file's name need not be UTF-8
        text = self.format(record).encode(errors="backslashreplace").decode()
        try:
            tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()
        except OSError as error:
            # also what is still held back, of which Python would complain at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            tell(f"warning: stdout cannot be written ({error.strerror}); {LOG} has every line")


class LogFile(logging.FileHandler):
    """log.txt; where it cannot be written the run ends, as with every other file of it."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            raise unwritable(Path(self.baseFilename), error) from error
        super().handleError(record)


def tell(text: object) -> None:
    """Print on stderr, which may be on a full disk as well."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def start_logging(output_dir: Path, is_main: bool) -> logging.Logger:
    """The program's logger: terminal and `output_dir/log.txt` on the main process."""
    logger = logging.getLogger(LOGGER_NAME)
    logger.handlers.clear()
    logger.propagate = False
    if not is_main:
        logger.addHandler(logging.NullHandler())
        logger.setLevel(logging.CRITICAL)
        return logger
    logger.setLevel(logging.INFO)
    file = LogFile(output_dir / LOG, encoding="utf-8", errors="backslashreplace")
    for handler in (TerminalHandler(), file):
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)
    return logger


def memory_gib(device: torch.device) -> float:
    """Peak memory of this process so far, in GiB: the GPU's, or resident memory on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def commit() -> str | None:
    """The git commit of this code, with `-dirty` where files differ from it; None outside git."""
    folder = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()


PACKAGES = ("torchvision", "open_clip_torch", "timm", "numpy", "decord", "opencv-python-headless")


def environment(device: torch.device) -> dict[str, str]:
    """What the numbers of a run may depend on besides its settings."""
    found = {"python": platform.python_version(), "torch": torch.__version__}
    found |= {"device": device_name(device), "system": platform.platform()}
    return found | {"cores": str(os.cpu_count())} | package_versions()


def package_versions() -> dict[str, str]:
    """Of the packages that decide what a run sees and computes, besides torch."""
    found = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def device_name(device: torch.device) -> str:
    """What the GPU or the CPU is called."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def processor() -> str:
    """The CPU's name where the system tells it, or its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
