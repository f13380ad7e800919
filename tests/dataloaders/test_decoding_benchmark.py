"""The benchmark of decoding in a process of its own runs, and writes what it measured."""

import json
import sys

import pytest
from clips import make_clip
from programs import run_program


@pytest.mark.parametrize("command", ["cost --repeats 1", "memory --decodes 4"])
def test_it_measures(tmp_path, command):
    make_clip(tmp_path / "a.mp4", 9, size=(48, 64))
    done = run_program(
        *(sys.executable, "-m", "benchmarks.decoding", *command.split()),
        *("--videos", tmp_path, "--json", tmp_path / "out.json"),
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out.json").read_text())[command.split()[0]]
    assert len(rows) == (2 if "cost" in command else 4)
    assert all(value > 0 for row in rows for value in row.values() if isinstance(value, float))
