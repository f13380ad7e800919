"""The scoring benchmark, small: it runs, and its figures hang together."""

import json
import sys

import pytest
from programs import run_program

SMALL = "--texts 24 --videos 24 --frames 3 --words 4 --width 32 --batch 10 --repeats 1"


@pytest.mark.parametrize("form", ["--context frames", "--context words --correct video"])
def test_forms_agree_and_every_figure_is_there(tmp_path, form):
    out = tmp_path / "scoring.json"
    command = f"-m benchmarks.scoring {SMALL} {form} --json {out}"
    done = run_program(sys.executable, *command.split())
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert 0 < figures["largest difference"] < 2e-6
    assert figures["candidates 1e-6 apart that change places"] == 0
    assert figures["command"] == f"python {command}"
    names = [row["form"].split(",")[0] for row in figures["rows"]]
    assert names == ["literal", "literal", "fast", "fast", "floor"]
    assert all(row["seconds"] > 0 for row in figures["rows"])
    assert all(row["form"] in done.stdout for row in figures["rows"])
