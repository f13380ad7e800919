"""Signals at moments other than a step: start-up, evaluation, waiting; and launchers that die."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from programs import ENVIRONMENT, ROOT, children, ends
from runs import LONGER, MAIN, training
from test_agreement import TWO, launchers
from test_resume import after, assert_same, start


def launched(shapes, output, *flags):
    """torchrun with two processes; and, once it has started them, those two."""
    command = [sys.executable, *TWO, MAIN, *training(shapes, output, *LONGER, *flags)]
    process = subprocess.Popen(
        list(map(str, command)),
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    after(process, output, "step 4/")
    return process, sorted(children(process.pid))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_asked_to_stop_while_it_starts_it_ends_after_the_first_step(
    call, shapes, straight, tmp_path, number
):
    process = start(shapes, tmp_path)
    after(process, tmp_path, "msrvtt 9k train")
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert "stopped after step 1; --resume auto goes on" in errors
    assert call(*training(shapes, tmp_path, *LONGER, "--resume", "auto")).returncode == 0
    assert_same(tmp_path, straight)


def test_one_of_two_processes_asked_to_stop_during_an_evaluation(shapes, tmp_path):
    """One batch of clips each, and many texts: it is asked before it has its clips."""
    process, ranks = launched(shapes, tmp_path)
    after(process, tmp_path, "step 20/")
    os.kill(ranks[1], signal.SIGUSR1)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert re.search(r"stopped (before the evaluation )?after step \d+", errors), errors
    assert "Traceback" not in errors


def test_a_second_ctrl_c_ends_a_process_that_waits_for_one_that_hangs(shapes, tmp_path):
    process, ranks = launched(shapes, tmp_path, "--workers", 0)
    os.kill(ranks[1], signal.SIGSTOP)
    time.sleep(2)  # until the other one waits for it
    os.kill(ranks[0], signal.SIGINT)
    time.sleep(1)
    assert not ended(ranks[0])
    os.kill(ranks[0], signal.SIGINT)
    assert ends(ranks[0])
    os.kill(ranks[1], signal.SIGKILL)
    errors = process.communicate()[1]
    assert "stopped at once; from the last saved state --resume auto goes on" in errors


def ended(number):
    return (
        not os.path.exists(f"/proc/{number}") or "(zombie)" in open(f"/proc/{number}/status").read()
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR1])
def test_with_the_launcher_gone_the_processes_stop_and_save(shapes, tmp_path, number):
    process, ranks = launched(shapes, tmp_path, "--save_every", 0)
    assert not list(tmp_path.glob("state_*"))
    process.send_signal(number)
    assert process.wait() == -number
    left = [rank for rank in ranks if not ends(rank)]
    assert not left, "a process is still there after a minute"
    assert list(tmp_path.glob("state_*.pt"))


def test_a_mistake_on_one_machine_ends_both(shapes, tmp_path):
    commands = [training(shapes, tmp_path / f"node{node}") for node in (0, 1)]
    started = time.monotonic()
    first, second = launchers(commands[0], (*commands[1], "--lr", -1))
    (printed, errors), (_, others) = first.communicate(), second.communicate()
    assert "process 1 cannot take part: 1 problem with the settings" in errors, errors
    assert "--lr -1" in errors
    assert "--lr -1" in others
    assert first.returncode
    assert second.returncode
    assert "step 1/" not in printed
    # a bound of the test's own would not hold on a busy machine; the group's wait is half an hour
    assert time.monotonic() - started < 1200
