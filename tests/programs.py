"""Starting the project's programs as a user does."""

import os
import subprocess
from pathlib import Path

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
