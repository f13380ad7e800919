"""The plain form of training and ours, small: the same losses, and every figure of their speed."""

import json
import sys

import pytest
from programs import run_program


@pytest.fixture
def benchmark(shapes, tmp_path):
    def run(*flags):
        out = tmp_path / "figures.json"
        paths = ("--data", shapes, "--train", 24, "--test", 13, "--frame_cache", tmp_path / "cache")
        small = ("--batch_size", 12, "--num_hidden_layers", 1, "--threads", 1, "--json", out)
        command = (sys.executable, "-m", "benchmarks.reference_step")
        done = run_program(*command, *paths, *small, *flags)
        assert done.returncode == 0, done.stderr
        return json.loads(out.read_text())

    return run


def test_both_take_the_same_path_also_with_padded_frames(benchmark):
    """A batch of 12 of 120 captions has videos twice; 5 frames of clips that have 3."""
    figures = benchmark("--trajectory", 12, "--max_frames", 5, "--workers", 1, "--epochs", 1)
    assert figures["largest relative difference of the loss"] < 1e-4
    rows = figures["rows"]
    assert [row["step"] for row in rows] == [0, 10, 11]
    assert rows[0]["ours"] != rows[-1]["ours"]
    for row in rows:
        assert float(row["ours"]) == pytest.approx(float(row["plain form"]), rel=1e-4)


def test_speed_is_split_into_waiting_and_computing(benchmark):
    figures = benchmark("--steps", 2, "--rounds", 1, "--workers", 0)
    plain, ours = figures["rows"]
    assert (plain["training"], ours["training"]) == ("plain form", "ours")
    for row in (plain, ours):
        parts = row["of it wait ms"] + row["of it compute ms"]
        assert row["ms per step"] == pytest.approx(parts)
        assert row["clips/s"] == pytest.approx(12_000 / row["ms per step"])
        # without processes, the wait is the reading itself
        assert row["of it wait ms"] > 0
    assert ours["times faster"] == pytest.approx(ours["clips/s"] / plain["clips/s"])
