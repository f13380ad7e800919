"""Ctrl-C in a terminal where `main_retrieval.py` runs."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from programs import ENVIRONMENT, ROOT, children, ends
from runs import MAIN, training

WRITING = """
import signal, sys
from pathlib import Path
from tvr.utils.files import replacing
from tvr.utils.interrupt import end_at_interrupt
end_at_interrupt()
with replacing(Path(sys.argv[1])) as file:
    file.write(bytes(2**20))
    print("half", flush=True)
    signal.pause()
"""


@pytest.fixture
def start():
    """Starts Python in a process group of its own, as a terminal does."""
    started = []

    def start_python(*arguments):
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=ROOT,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start_python
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("times", [1, 2])
def test_a_training_ends_with_few_words_and_leaves_no_process(start, shapes, tmp_path, times):
    """Once: after the step, which is saved. Twice: at once."""
    process = start(MAIN, *training(shapes, tmp_path, "--batch_size", 2, "--workers", 2))
    log = tmp_path / "log.txt"
    while process.poll() is None and not (log.exists() and "clips/s" in log.read_text()):
        time.sleep(0.01)
    workers = children(process.pid)
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.001)
    printed, errors = process.communicate()
    assert process.returncode == 130
    once = r"stopping after this step; Ctrl-C again: at once\n"
    words = {1: rf"{once}stopped after step \d+; --resume auto goes on\n"}
    words[2] = (
        rf"{words[1]}|{once}stopped at once; from the last saved state --resume auto goes on\n"
    )
    assert re.fullmatch(words[times], errors), errors
    assert printed.count("clips/s") == log.read_text().count("clips/s")
    assert len(workers) == 2
    assert [ends(worker) for worker in workers] == [True, True]


def test_a_file_that_is_being_written_is_not_left_half_done(start, tmp_path):
    file = tmp_path / "checkpoint.pt"
    file.write_text("the one before")
    process = start("-c", WRITING, file)
    assert process.stdout.readline() == "half\n"
    assert len(list(tmp_path.iterdir())) == 2
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() == 130
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_text() == "the one before"
