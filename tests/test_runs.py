"""`python -m tvr.runs`: runs as a table, and one against another query by query."""

import csv
import json

import numpy as np
import pytest

from tvr.rankings import HEADER
from tvr.runs import main
from tvr.utils.metrics import paired_interval

QUERIES = 40


def metrics(recall):
    both = {"R@1": recall, "R@5": 60.0, "R@10": 80.0, "R@50": 99.0, "MdR": 3.0, "MnR": 7.25}
    return {"t2v": both | {"R@1 95%": [recall - 5, recall + 5]}, "v2t": both}


def a_run(folder, ranks, queries="q", **settings):
    """An output folder with these ranks of the t2v queries, and of the v2t ones as well."""
    folder.mkdir(parents=True)
    recall = 100 * float(np.mean(np.array(ranks) == 1))
    results = [{"label": "last epoch", **metrics(recall)}, {"label": "best", **metrics(90.0)}]
    settings = {"do_train": True, "alpha": 2.0, "lr": 1e-4, **settings}
    protocol = {"split": "msrvtt 9k test", "videos": len(ranks)}
    content = {"results": results, "settings": settings, "protocol": protocol}
    (folder / "metrics.json").write_text(json.dumps(content))
    with (folder / "rankings_last.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for way in ("t2v", "v2t"):
            for query, rank in enumerate(ranks):
                writer.writerow([way, f"{queries}{query}", "t", rank, "0.5", *[""] * 10])
    return folder


@pytest.fixture
def two(tmp_path):
    ranks = np.random.default_rng(0).integers(1, 4, size=(2, QUERIES))
    first = a_run(tmp_path / "ckpts/first", ranks[0].tolist())
    second = a_run(tmp_path / "ckpts/deep/second", ranks[1].tolist(), alpha=3.0, lr=1e-3)
    return first, second, ranks


def table(capsys, *arguments):
    assert main([*map(str, arguments)]) == 0
    return capsys.readouterr().out.splitlines()


def test_runs_below_a_folder_with_what_they_differ_in(two, tmp_path, capsys):
    lines = table(capsys, tmp_path / "ckpts")
    assert len(lines) == 3
    assert lines[1].startswith(str(two[1]))  # in the order of their names
    assert "alpha" in lines[0]
    assert "lr" in lines[0]
    assert "do_train" not in lines[0]
    assert "last epoch" in lines[1]


def test_the_best_result_when_asked_for(two, tmp_path, capsys):
    lines = table(capsys, tmp_path / "ckpts", "--result", "best")
    assert all("90.0" in line for line in lines[1:])


def an_evaluation(folder):
    """An evaluation's folder with several ways to score, and no settings of training."""
    labels = ("mean of the frames", "pooling", "pooling, dual softmax")
    results = [{"label": name, **metrics(10.0 * k)} for k, name in enumerate(labels)]
    protocol = {"split": "msvd test", "videos": 670}
    content = {"results": results, "settings": {"do_train": False}, "protocol": protocol}
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps(content))


def test_of_an_evaluation_the_result_that_has_rankings(two, tmp_path, capsys):
    an_evaluation(tmp_path / "evaluation")
    lines = table(capsys, two[0], two[1], tmp_path / "evaluation")
    assert lines[3].split()[1:6] == ["pooling", "msvd", "test", "670", "10.0"]
    assert f"msrvtt 9k test  {QUERIES}" in lines[1]
    # what only trainings have says nothing about the others
    assert "alpha" not in lines[0]
    assert "do_train" in lines[0]


def test_rankings_that_are_none_are_named(two, capsys):
    (two[0] / "rankings_last.csv").write_text("x" * 200_000)
    assert main([str(two[1]), "--against", str(two[0])]) == 2
    assert "rankings_last.csv: " in capsys.readouterr().err


def test_a_run_that_is_named_twice_is_there_once(two, tmp_path, capsys):
    assert len(table(capsys, two[0], tmp_path / "ckpts")) == 3


def test_against_another_run_query_by_query(two, tmp_path, capsys):
    first, second, ranks = two
    path = tmp_path / "runs.csv"
    table(capsys, first, second, "--against", first, "--csv", path)
    rows = list(csv.DictReader(path.open()))
    assert rows[0]["Δ t2v R@1"] == "+0.0 (+0.0 to +0.0)"
    hits = ranks == 1
    low, high = paired_interval(hits[1], hits[0])
    difference = 100 * (hits[1].mean() - hits[0].mean())
    assert rows[1]["Δ v2t R@1"] == f"{difference:+.1f} ({low:+.1f} to {high:+.1f})"


def test_the_paired_interval_is_that_of_resampled_queries():
    rng = np.random.default_rng(3)
    hits, others = rng.random((2, 300)) < np.array([[0.6], [0.45]])
    low, high = paired_interval(hits, others)
    chosen = rng.integers(0, 300, size=(4000, 300))
    means = 100 * (hits.astype(int) - others)[chosen].mean(axis=1)
    assert [low, high] == pytest.approx(np.percentile(means, [2.5, 97.5]).tolist(), abs=0.7)
    assert low < 100 * (hits.mean() - others.mean()) < high


def test_runs_of_other_queries_are_not_compared(two, tmp_path, capsys):
    other = a_run(tmp_path / "other", [1] * QUERIES, queries="p")
    assert main([str(two[0]), "--against", str(other)]) == 2
    assert "not the same queries" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"results": [], "settings": {}}', '{"results": [{}], "settings": 1}']
)
def test_what_is_no_run_is_named(tmp_path, capsys, text):
    (tmp_path / "metrics.json").write_text(text)
    assert main([str(tmp_path)]) == 2
    assert f"error: {tmp_path / 'metrics.json'}: not what a run writes" in capsys.readouterr().err


def test_a_folder_without_runs_is_named(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert f"{tmp_path}: no metrics.json" in capsys.readouterr().err


def test_rankings_that_are_gone_are_named(two, capsys):
    (two[1] / "rankings_last.csv").unlink()
    assert main([str(two[0]), "--against", str(two[1])]) == 2
    assert "rankings_last.csv" in capsys.readouterr().err


def test_a_real_run_and_its_evaluation(trained, evaluated, tmp_path, capsys):
    path = tmp_path / "runs.csv"
    table(capsys, trained[0], evaluated, "--csv", path)
    first, second = csv.DictReader(path.open())
    assert first["t2v R@1"] == second["t2v R@1"]  # the evaluation is of the last checkpoint
    assert (first["result"], second["do_eval"]) == ("last epoch", "True")


def test_settings_from_a_file_move_no_cursor(tmp_path, capsys):
    a_run(tmp_path / "a", [1, 2], protocol="\x1b[2Jevil")
    a_run(tmp_path / "b", [1, 2], protocol="x" * 100)
    lines = table(capsys, tmp_path)
    assert not any("\x1b" in line for line in lines)
    assert "x" * 41 not in lines[-1]
