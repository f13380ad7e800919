"""Two launchers on loopback that were given different things; and what stops all of a training."""

import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
from programs import ENVIRONMENT, ROOT, children, ends
from runs import LAUNCHERS, LONGER, program, results, training
from test_main_nodes import free_port
from test_resume import after

TWO = (*LAUNCHERS["torchrun"], "--nproc_per_node=2")


def launchers(*commands, roots=(ROOT, ROOT)):
    """Two launchers of one process each, for these flags of `main_retrieval.py`."""
    port = free_port()
    return [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--nnodes=2"),
                *("--nproc_per_node=1", f"--node_rank={node}", "--master_addr=127.0.0.1"),
                *(f"--master_port={port}", str(root / "main_retrieval.py"), *map(str, command)),
            ],
            cwd=root,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for node, (command, root) in enumerate(zip(commands, roots, strict=True))
    ]


@pytest.mark.parametrize("other", ["flags", "captions", "code"])
def test_what_differs_is_noticed_at_the_start(shapes, tmp_path, other):
    data, root, flags = shapes, ROOT, ()
    if other == "flags":
        flags, problem = ("--lr", 2e-3), "--lr is 0.001 for process 0 and 0.002 for process 1"
    elif other == "captions":
        data = shutil.copytree(shapes, tmp_path / "copy")
        captions = data / "anns/MSRVTT_JSFUSION_test.csv"
        captions.write_text(captions.read_text().replace(" is ", " was "))
        split = "the fingerprint of msrvtt 9k test's captions"
        problem = rf"{split} is \w+ for process 0 and \w+ for process 1"
    else:
        root = tmp_path / "code"
        shutil.copytree(ROOT / "tvr", root / "tvr")
        shutil.copy(ROOT / "main_retrieval.py", root)
        losses = root / "tvr/models/losses.py"
        losses.write_text(losses.read_text() + "\n")
        problem = r"this program's code is \w+ for process 0 and \w+ for process 1"
    machines = launchers(
        training(shapes, tmp_path / "node0"),
        training(data, tmp_path / "node1", *flags),
        roots=(ROOT, root),
    )
    for machine in machines:
        printed, errors = machine.communicate()
        assert machine.returncode, printed
        assert re.search(f"error: the processes do not agree: {problem}\\.", errors), errors
        assert "step 1/" not in printed
    assert not list(tmp_path.glob("node*/*.pt"))


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_that_is_killed_ends_those_of_the_other_machine(shapes, tmp_path, victim):
    commands = [training(shapes, tmp_path / f"node{node}", *LONGER) for node in (0, 1)]
    machines = launchers(*commands)
    after(machines[0], tmp_path / "node0", "step 4/")
    ranks = [child for machine in machines for child in children(machine.pid)]
    os.kill(ranks[victim], signal.SIGKILL)
    left = [number for number in ranks if not ends(number)]
    assert not left, "a process is still there after a minute"
    for machine in machines:
        machine.communicate()
    done = program(*training(shapes, tmp_path / "node0", *LONGER, "--resume", "auto"), launcher=TWO)
    assert done.returncode == 0, done.stderr
    assert re.search("going on after step [0-9]+", done.stdout)
    assert results(tmp_path / "node0")


def test_one_of_torchruns_processes_that_is_killed_ends_all(shapes, tmp_path):
    process = subprocess.Popen(
        [*map(str, (sys.executable, *TWO, ROOT / "main_retrieval.py"))]
        + [str(flag) for flag in training(shapes, tmp_path, *LONGER)],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    after(process, tmp_path, "step 4/")
    ranks = children(process.pid)
    os.kill(max(ranks), signal.SIGKILL)
    left = [number for number in (*ranks, process.pid) if not ends(number)]
    assert not left, "a process is still there after a minute"
    errors = process.communicate()[1]
    assert process.returncode
    assert re.search(r"Signal 9 \(SIGKILL\)|exitcode *: -9", errors), errors
    assert list(tmp_path.glob("state_*.pt"))
