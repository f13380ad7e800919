"""Starting the project's programs as a user does."""

import os
import signal
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Packages that only tests need. A user's environment has none of them, and where they are, timm and
# open_clip import them: a quarter of the time that the program takes to start
ABSENT = ROOT / "tests" / "absent"
# Two cores are shared by everything that runs at once; more threads would only get in the way
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ABSENT)}


def importing(*folders):
    """The environment of a program that imports from these folders as well."""
    path = os.pathsep.join(map(str, (*folders, ABSENT)))
    return {**ENVIRONMENT, "PYTHONPATH": path}


def run_program(*command, cwd=ROOT, **environment):
    """A user's command; returns the finished process with its output."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
    )


def children(process):
    """The processes that a process has started and not waited for."""
    return list(map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split()))


def ends(process):
    """Whether a process ends; one that is still there after a minute is killed."""
    for _ in range(600):
        try:
            status = Path(f"/proc/{process}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return True
        # after a name of any kind in brackets the state: Z is dead, and only not waited for
        if status.rpartition(") ")[2].startswith("Z"):
            return True
        time.sleep(0.1)
    os.kill(process, signal.SIGKILL)
    return False
