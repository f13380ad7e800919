"""Training on several machines: one launcher on each, here all on loopback."""

import socket
import subprocess
import sys

from programs import ENVIRONMENT, ROOT, run_program
from runs import MAIN, results, training, weights


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_two_launchers_train_and_select_as_one_process(shapes, tmp_path):
    """Only the first machine's folder has the checkpoints, of which one is selected and tested."""
    made = run_program(
        *(sys.executable, "preprocess/shapes_formats.py", "--shapes", shapes),
        *("--videos", shapes / "videos_3fps", "--datatype", "msvd", "--output", tmp_path),
    )
    assert made.returncode == 0, made.stderr
    flags = [
        *("--datatype", "msvd", "--allow_partial_training", 1, "--epochs", 2),
        *("--anno_path", tmp_path / "anns", "--video_path", tmp_path / "videos"),
    ]
    one = run_program(sys.executable, MAIN, *training(shapes, tmp_path / "one", *flags))
    assert one.returncode == 0, one.stderr
    port, machines = free_port(), []
    for node in (0, 1):
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1"),
            *(f"--node_rank={node}", "--master_addr=127.0.0.1", f"--master_port={port}"),
            *(MAIN, *training(shapes, tmp_path / f"node{node}", *flags)),
        ]
        machines.append(
            subprocess.Popen(
                list(map(str, command)),
                cwd=ROOT,
                env=ENVIRONMENT,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    for machine in machines:
        errors = machine.communicate()[1]
        assert machine.returncode == 0, errors
    assert not list((tmp_path / "node1").iterdir())
    (_, expected), (content, found) = results(tmp_path / "one"), results(tmp_path / "node0")
    assert found == expected
    assert [result["epoch"] for result in content["results"]] == [2, 1], "the last was selected"
    one = weights(tmp_path / "one")
    for name, tensor in weights(tmp_path / "node0").items():
        if name != "psi.key.bias":  # its gradient is rounding noise, which Adam makes steps of
            assert (tensor - one[name]).abs().max() <= 1e-5, name
