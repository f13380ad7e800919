"""The processes that read data: they end with the main process, and without a word."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from multiprocessing import resource_sharer
from multiprocessing.reduction import DupFd

import pytest
import torch
from programs import ROOT, ends
from torch.utils.data import DataLoader

from tvr.dataloaders.workers import WorkerDied, checked, deaths_reported, init_worker

READING = """
import multiprocessing, sys
from torch.utils.data import DataLoader
from tvr.dataloaders.workers import init_worker
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGUSR1, signal.SIGTERM])
def test_signals_to_all_processes_are_left_to_the_main_one(started, number):
    worker, pipe = started(answer)
    assert pipe.recv() == "ready"
    # not from the main process, whose SIGTERM ends it
    subprocess.run(["kill", f"-{int(number)}", str(worker.pid)], check=True)
    pipe.send("still there?")
    assert pipe.recv() == "still there?"


def test_the_main_process_can_end_it(started):
    worker, pipe = started(answer)
    assert pipe.recv() == "ready"
    worker.terminate()
    worker.join()
    assert worker.exitcode == 0


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


class Killed:
    """Data whose reading ends the process, as by the kernel where memory runs out."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return index


class Faulty(Killed):
    """Data whose reading meets a mistake of ours."""

    def __init__(self, error):
        self.error = error

    def __getitem__(self, index):
        raise self.error


def test_a_death_is_one_error_that_says_what_to_try():
    batches = checked(DataLoader(Killed(), batch_size=None, num_workers=1))
    expected = r"died \(.*(killed by signal: Killed|exited unexpectedly)\): .* Try fewer --workers"
    with pytest.raises(WorkerDied, match=expected), deaths_reported():
        list(batches)


class Vanishing:
    """Data whose process loses its connections some time before it dies, as the system has it."""

    def __init__(self, folder):
        self.closed = folder / "closed"

    def __len__(self):
        return 2

    def __getitem__(self, index):
        if index == 1:
            while (listener := resource_sharer._resource_sharer._listener) is None:
                time.sleep(0.01)  # until the first item is on offer
            listener.close()
            self.closed.touch()
            time.sleep(1)
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.zeros(3)


def test_a_death_that_is_seen_before_it_is_announced_is_one_error(tmp_path):
    data = Vanishing(tmp_path)
    batches = iter(DataLoader(data, batch_size=None, num_workers=1))
    while not data.closed.exists():
        time.sleep(0.01)
    expected = r"died \(DataLoader worker \(pid \d+\) is killed by signal: Killed\): "
    with pytest.raises(WorkerDied, match=expected), deaths_reported():
        next(checked(batches))


def test_a_connection_that_ends_is_a_death_though_none_is_announced(monkeypatch):
    def loader():
        yield 0
        raise EOFError

    monkeypatch.setattr("tvr.dataloaders.workers.ANNOUNCED_WITHIN", 0.1)
    with pytest.raises(WorkerDied, match=r"died \(its connection ended\)"):
        list(checked(loader()))


@pytest.mark.parametrize("error", [FileNotFoundError("no file"), RuntimeError("a mistake")])
def test_a_mistake_of_ours_in_a_process_is_not_called_its_death(error):
    with pytest.raises(type(error), match=r"^Caught"), deaths_reported():
        list(checked(DataLoader(Faulty(error), batch_size=None, num_workers=1)))
