"""Curves of ablation tables that `scripts/ablation_report.py` has written."""

import csv

import pytest
from figure_files import rows_of

from scripts.ablation_report import COLUMNS, Line, write_csv


def line(name, first, sd, paper=None):
    mean = {column: first + place for place, column in enumerate(COLUMNS)}
    deviation = dict.fromkeys(COLUMNS, sd)
    seeds = {column: [value] if sd is None else [value] * 2 for column, value in mean.items()}
    return Line(name, mean, deviation, {} if paper is None else {"t2v R@1": paper}, seeds)


@pytest.fixture
def folder(tmp_path):
    alpha = [line("α 0.5", 40, 1.5, "47.6"), line("α 1", 41.25, 0.5), line("orthogonal", 39, 0.25)]
    write_csv(tmp_path / "alpha.csv", alpha)
    write_csv(tmp_path / "query.csv", [line("gap", 30, None), line("$\\text{", 31, None)])
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty.csv").touch()
    return tmp_path


def test_every_number_of_every_table(folder, analyse):
    done = analyse("5", "--run", folder)
    assert done.code == 0, done.err
    rows = rows_of(folder / "analysis", "ablations")
    assert [row["table"] for row in rows] == ["alpha"] * 3 + ["query"] * 2
    written = []
    for name in ("alpha", "query"):
        with (folder / f"{name}.csv").open(newline="") as file:
            written += list(csv.DictReader(file))
    for row, source in zip(rows, written, strict=True):
        assert row["row"] == source["row"]
        for way in ("t2v", "v2t"):
            for kind in ("mean", "sd", "paper"):
                ours, theirs = row[f"{way} R@1 {kind}"], source[f"{way} R@1 {kind}"]
                assert (float(ours) if ours else None) == (float(theirs) if theirs else None)
    assert rows[0]["t2v R@1 paper"] == "47.6"
    assert "alpha, t2v R@1: α 0.5 40.0, α 1 41.2, orthogonal 39.0" in done.out


def test_a_folder_without_tables(trained, analyse, tmp_path):
    done = analyse("ablations", "--run", trained[0], "--output", tmp_path)
    assert done.code == 2
    assert "OUTPUT of scripts/ablations.sh" in done.err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("41.2500", "x"), "line 3: no number where one should be"),
        (lambda text: text.replace("41.2500", ""), "line 3: α 1 has no mean R@1"),
        (lambda text: text.splitlines()[0], "has no rows"),
    ],
)
def test_a_damaged_table_names_its_line(folder, analyse, change, said):
    path = folder / "alpha.csv"
    path.write_text(change(path.read_text()))
    done = analyse("ablations", "--run", folder)
    assert done.code == 2
    assert f"{path}" in done.err
    assert said in done.err
    assert not (folder / "analysis").exists()
