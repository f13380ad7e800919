"""The processes that read data: they end with the main process, and without a word."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from multiprocessing.reduction import DupFd

import pytest
from programs import ROOT, ends

from tvr.dataloaders.datasets import init_worker

READING = """
import multiprocessing, sys
from torch.utils.data import DataLoader
from tvr.dataloaders.datasets import init_worker
items = [bytes(2**20)] * 9  # more than a pipe takes that nobody reads from
loader = iter(DataLoader(items, batch_size=None, num_workers=2, worker_init_fn=init_worker))
next(loader), next(loader)
print(*(worker.pid for worker in multiprocessing.active_children()), flush=True)
sys.stdin.read()
"""


def test_they_do_not_outlive_a_killed_main_process():
    process = subprocess.Popen(
        [sys.executable, "-c", READING], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    workers = list(map(int, process.stdout.readline().split()))
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()
    assert len(workers) == 2
    assert [ends(worker) for worker in workers] == [True, True]


@pytest.fixture
def started():
    """Starts a function in a process of its own; gives the process and a pipe to it."""
    workers = []

    def start(function):
        ours, theirs = multiprocessing.Pipe()
        worker = multiprocessing.get_context("fork").Process(target=function, args=(theirs,))
        worker.start()
        workers.append(worker)
        theirs.close()
        return worker, ours

    yield start
    for worker in workers:
        worker.kill()
        worker.join()


def answer(pipe):
    init_worker(0)
    pipe.send("ready")
    pipe.send(pipe.recv())


def test_control_c_is_left_to_the_main_process(started):
    worker, pipe = started(answer)
    assert pipe.recv() == "ready"
    os.kill(worker.pid, signal.SIGINT)
    pipe.send("still there?")
    assert pipe.recv() == "still there?"


def offer(pipe):
    """Hand a file over as PyTorch hands over a tensor."""
    init_worker(0)
    with open(os.devnull) as file:
        pipe.send(DupFd(file.fileno()))
    pipe.recv()


def test_a_batch_that_is_fetched_only_in_part_is_no_error(started, capfd):
    """As by a main process that is stopped in the middle of it."""
    worker, pipe = started(offer)
    offered = pipe.recv()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(offered._id[0])
    # one after another: the first has failed once the second has what it came for
    os.close(offered.detach())
    pipe.send("end")
    worker.join()
    assert worker.exitcode == 0
    assert capfd.readouterr().err == ""
