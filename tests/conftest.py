"""A small MSR-VTT of made-up videos, in its own file formats, shared by the end-to-end tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Two cores are shared by everything that runs at once; more threads would only get in the way
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def run_program(*command, cwd=ROOT, **environment):
    """A user's command; returns the finished process with its output."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """24 training and 13 test videos, compressed: the folder has `anns` and `videos_3fps`."""
    folder = tmp_path_factory.mktemp("shapes")
    python = sys.executable
    made = run_program(
        python, "preprocess/make_shapes.py", "--output", folder, "--train", 24, "--test", 13
    )
    assert made.returncode == 0, made.stderr
    compressed = run_program(
        *(python, "preprocess/compress_video.py", "--input_root", folder / "videos"),
        *("--output_root", folder / "videos_3fps"),
    )
    assert compressed.returncode == 0, compressed.stderr
    return folder
