"""Curves over a training, against the lines of its metrics.jsonl."""

import json

import pytest
from figure_files import rows_of


def logged_lines(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["split"] == "train"]


def test_every_quantity_of_every_line(logged, analyse, tmp_path):
    done = analyse("8", "--run", logged, "--output", tmp_path)
    assert done.code == 0, done.err
    rows, lines = rows_of(tmp_path, "geometry"), logged_lines(logged)
    assert (
        [int(row["step"]) for row in rows] == [line["step"] for line in lines] == [2, 4, 6, 8, 10]
    )
    names = {n for n in lines[0] if n.startswith(("positive/", "negative/"))}
    assert rows[0].keys() == {"step", *names}
    assert len(names) == 20
    for row, line in zip(rows, lines, strict=True):
        for name in names:
            assert float(row[name]) == pytest.approx(line[name], rel=1e-5)
    angle = lines[-1]["negative/angle_gap"]
    assert f"negatives: {lines[0]['negative/angle_gap']:.4g} at step 2, {angle:.4g}" in done.out


def test_a_baseline_has_lengths_and_distances_alone(baseline, analyse, tmp_path):
    done = analyse("geometry", "--run", baseline, "--output", tmp_path)
    assert done.code == 0, done.err
    [first, *_] = rows_of(tmp_path, "geometry")
    assert len(first) == 1 + 2 * 4
    assert "angle" not in done.out


def test_a_training_that_has_not_logged_them(trained, analyse, tmp_path):
    done = analyse("geometry", "--run", trained[0], "--output", tmp_path)
    assert done.code == 2
    assert "train with --log_increment 1" in done.err
    assert not list(tmp_path.iterdir())


def test_lines_that_are_no_numbers_are_passed_over(logged, analyse, tmp_path):
    """A damaged file: what is left of it is shown."""
    run = tmp_path / "run"
    run.mkdir()
    lines = (logged / "metrics.jsonl").read_text().splitlines()
    odd = {"step": 3, "split": "train", "positive/cosine": "x", "negative/cosine": None}
    half = {"step": 4, "split": "train", "positive/cosine": 1.0, "negative/cosine": 0.5}
    text = "\n".join([json.dumps(odd), json.dumps(half), lines[0], "{broken"])
    (run / "metrics.jsonl").write_text(text)
    done = analyse("geometry", "--run", run)
    assert done.code == 0, done.err
    rows = rows_of(run / "analysis", "geometry")
    assert [row["step"] for row in rows] == ["4", "2"]
    assert rows[0]["positive/angle_gap"] == ""
