"""Runs that cannot write what they say: log.txt on a full disk, and a terminal that is gone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from programs import ENVIRONMENT, ROOT
from runs import MAIN, evaluation, results

FULL = Path("/dev/full")
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


@pytest.fixture
def flags(shapes, trained, tmp_path):
    return list(map(str, evaluation(shapes, trained[0] / "checkpoint_last.pt", tmp_path)))


def run(flags, **streams):
    command = [sys.executable, MAIN, *flags]
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, text=True, **streams)


def test_a_log_that_cannot_be_written_ends_the_run_with_one_message(call, flags, tmp_path):
    (tmp_path / "log.txt").symlink_to(FULL)
    done = call(*flags)
    assert done.returncode == 2
    reason = "cannot be written (No space left on device)"
    assert done.stderr == f"error: {tmp_path}/log.txt: {reason}.\n"
    assert not (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize(
    ("where", "reason"), [("a disk", "No space left on device"), ("a pipe", "Broken pipe")]
)
def test_a_terminal_that_is_gone_does_not_end_a_run(flags, tmp_path, where, reason):
    if where == "a disk":
        stdout = os.open(FULL, os.O_WRONLY)
    else:
        reader, stdout = os.pipe()
        os.close(reader)
    done = run(flags, stdout=stdout, stderr=subprocess.PIPE)
    os.close(stdout)
    assert done.returncode == 0, done.stderr
    assert done.stderr == (
        f"warning: stdout cannot be written ({reason}); log.txt has every line\n"
    )
    assert results(tmp_path)
    assert "wrote" in (tmp_path / "log.txt").read_text()


def test_where_nothing_can_be_said_a_mistake_has_its_exit_code(flags):
    with FULL.open("wb") as full:
        done = run([*flags, "--batch_size_val", "0"], stdout=full, stderr=full)
    assert done.returncode == 2
