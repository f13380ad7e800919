"""The benchmark of `--log_increment 1`: its figures hang together."""

import json
import sys

import pytest

from benchmarks.log_increment import main

SMALL = "--batch_size 4 --batches 1 --num_hidden_layers 1 --warmup 1 --rounds 2 --threads 1"


def test_three_rows_and_their_shares(tmp_path, monkeypatch, capsys):
    out = tmp_path / "logged.json"
    monkeypatch.setattr(sys, "argv", ["log_increment", *SMALL.split(), "--json", str(out)])
    assert main() == 0
    without, logged, alone = json.loads(out.read_text())["rows"]
    step = without["processor ms"]
    for row, more in ((logged, logged["processor ms"] - step), (alone, alone["processor ms"])):
        assert float(row["more, % of a step"]) == pytest.approx(100 * more / step, abs=0.006)
    assert alone["processor ms"] < step
    assert logged["--log_increment 1"] in capsys.readouterr().out


def test_settings_that_cannot_work_are_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["log_increment", "--max_words", "99"])
    assert main() == 2
    assert "--max_words 99" in capsys.readouterr().err
