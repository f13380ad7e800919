"""W processes give the gradient of one process on the same global batch."""

import json
import subprocess
import sys

import pytest
import torch
from programs import ROOT, importing

CASES = {
    "text+frames": {"agg_module": "seqTransf", "num_hidden_layers": 2},
    "video+words": {"agg_module": "seqLSTM", "correct": "video", "context": "words"},
    "baseline": {"agg_module": "None", "increment": "none"},
    "release padding": {"agg_module": "None", "padding": "release"},
}
# the same gradient, computed in another way
OTHERWISE = {
    f"{name}, chunks of {size}": {**CASES[name], "chunk_size": size}
    for name, size in (("text+frames", 5), ("video+words", 2), ("baseline", 1))
}
OTHERWISE["text+frames, recomputed"] = {**CASES["text+frames"], "grad_checkpointing": True}
OTHERWISE["text+frames, literally"] = {**CASES["text+frames"], "folded": False}
OTHERWISE["video+words, literally"] = {**CASES["video+words"], "folded": False}
RELEASE = {"release gather": {**CASES["text+frames"], "release_gather": True}}


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
    command = [
        *launcher,
        str(ROOT / "tests/gradient_worker.py"),
        json.dumps(CASES | OTHERWISE | RELEASE),
        str(output),
    ]
    subprocess.run(command, check=True, env=importing(ROOT))
    return torch.load(output, weights_only=True)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("world_size", [2, 3])
def test_gradient_equals_one_process(results, name, world_size):
    assert_equal(results[world_size][name], results[1][name])


@pytest.mark.parametrize("name", OTHERWISE)
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_gradient_computed_otherwise_is_the_same(results, name, world_size):
    assert_equal(results[world_size][name], results[1][name.split(",")[0]])


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_gathered_as_in_the_release_the_encoders_gradient_is_divided(results, world_size):
    """By W; ψ's, and that of the logit scale, which come after the gathering, are not."""
    exact = results[1]["text+frames"]
    share = {
        name: gradient
        if name.startswith("psi.") or "logit_scale" in name
        else gradient / world_size
        for name, gradient in exact["gradients"].items()
    }
    assert_equal(results[world_size]["release gather"], {**exact, "gradients": share})


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("world_size", [2, 3])
def test_statistics_are_those_of_all_processes(results, name, world_size):
    expected = results[1][name]["statistics"]
    assert ("delta/norm" in expected) == (name != "baseline")
    for statistic, value in results[world_size][name]["statistics"].items():
        torch.testing.assert_close(value, expected[statistic], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("world_size", [2, 3])
def test_each_of_w_processes_does_a_wth_of_the_score(results, folded, world_size):
    """But for what is done once for each video, which is little."""
    share = results[world_size]["flops"][folded] / results[1]["flops"][folded]
    assert 1 / world_size <= share <= 1.1 / world_size


def assert_equal(many, one):
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
