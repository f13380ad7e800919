"""W processes give the gradient of one process on the same global batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
CASES = {
    "text+frames": {"agg_module": "seqTransf", "num_hidden_layers": 2},
    "video+words": {"agg_module": "seqLSTM", "correct": "video", "context": "words"},
    "baseline": {"agg_module": "None", "increment": "none"},
    "release padding": {"agg_module": "None", "padding": "release"},
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """For W = 1, 2, 3: each case's loss and gradients, from W real processes."""
    return {w: run_processes(w, tmp_path_factory.mktemp("gradients")) for w in (1, 2, 3)}


def run_processes(world_size, folder):
    output = folder / "results.pt"
    launcher = [sys.executable]
    if world_size > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone"]
        launcher += [f"--nproc_per_node={world_size}"]
    command = [*launcher, str(ROOT / "tests/gradient_worker.py"), json.dumps(CASES), str(output)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=environment)
    return torch.load(output, weights_only=True)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("world_size", [2, 3])
def test_gradient_equals_one_process(results, name, world_size):
    one, many = results[1][name], results[world_size][name]
    torch.testing.assert_close(many["loss"], one["loss"], rtol=1e-6, atol=0)
    assert many["gradients"].keys() == one["gradients"].keys()
    total = torch.stack([g.norm() for g in one["gradients"].values()]).norm()
    for parameter, expected in one["gradients"].items():
        error = (many["gradients"][parameter] - expected).norm()
        # ψ's key bias has gradient 0 (softmax is blind to it): there only noise is compared
        floor = 1e-8 * total
        assert error <= 1e-5 * expected.norm() + floor, (parameter, error, expected.norm())


@pytest.mark.parametrize("name", CASES)
def test_no_parameter_is_built_and_not_used(results, name):
    unused = [p for p, gradient in results[1][name]["gradients"].items() if gradient is None]
    assert not unused
