"""Output folders that are read back: as runs leave them, old, damaged and hostile."""

import json
import random
import shutil

import pytest
from output_folders import change, copied

from tvr.report.__main__ import main
from tvr.report.examples import Data
from tvr.report.folder import read_main_rankings, read_run
from tvr.report.page import render
from tvr.track import METRICS
from tvr.utils.errors import UserError

VALUES = (None, True, -1, 1.5, float("nan"), float("inf"), 10**30, "x", "\x1b[31m", [], [{}], {})


def test_a_training_is_read_as_it_was_written(of_training):
    run = read_run(of_training)
    content = json.loads((of_training / "metrics.json").read_text())
    assert run.is_training
    assert not run.has_validation
    assert [each.label for each in run.results] == [each["label"] for each in content["results"]]
    assert run.main.label == "last epoch"
    assert run.main.metrics["t2v"]["R@5"] == content["results"][0]["t2v"]["R@5"]
    assert (run.main.epoch, run.main.step) == (1, 10)
    assert run.others == []
    rankings, problem = read_main_rankings(run)
    assert (len(rankings), problem) == (26, "")


def test_a_selected_checkpoint_is_the_one_to_report(of_training):
    def selects(content):
        content["settings"]["protocol"] = "7k"
        for result in content["results"]:
            result["validation"] = {name: result[name] for name in ("t2v", "v2t")}

    change(of_training / "metrics.json", selects)
    run = read_run(of_training)
    assert run.has_validation
    assert run.main.checkpoint == "checkpoint_best.pt"
    assert run.main.validation == run.main.metrics
    assert run.rankings_path.name == "rankings_best.csv"


def test_of_an_evaluation_the_last_raw_scores_are_the_main_result(of_evaluation):
    def scores_several_ways(content):
        (one,) = content["results"]
        labels = ("a, mean", "a, mean, sinkhorn at 1", "a, pooled", "a, pooled, sinkhorn at 1")
        content["results"] = [{**one, "label": label} for label in labels]

    change(of_evaluation / "metrics.json", scores_several_ways)
    assert read_run(of_evaluation).main.label == "a, pooled"


def test_settings_of_another_run_are_noticed(of_training):
    change(of_training / "config.json", lambda content: content["settings"].update(lr=7.0))
    assert read_run(of_training).others == ["lr"]


def test_what_a_checkpoint_decides_is_no_other_run(of_evaluation):
    change(of_evaluation / "config.json", lambda content: content["settings"].update(temp=7.0))
    assert read_run(of_evaluation).others == []


def test_an_old_folder_does_not_say_how_many_examples(of_training):
    change(of_training / "metrics.json", lambda content: content["settings"].pop("report_examples"))
    change(of_training / "config.json", lambda content: content.pop("started"))
    run = read_run(of_training)
    assert run.settings["report_examples"] == 6
    assert run.started is None


@pytest.mark.parametrize("what", ["nothing", "a file", "empty", "config.json", "metrics.json"])
def test_what_is_no_output_folder_is_refused(of_training, tmp_path, capsys, what):
    folder = of_training
    if what in ("nothing", "a file", "empty"):
        folder = tmp_path / what
    if what == "a file":
        folder.write_text("text")
    elif what == "empty":
        folder.mkdir()
    elif what != "nothing":
        (folder / what).unlink()
    refused(folder, capsys, "Name the output folder")
    assert not (tmp_path / "report.html").exists()


def refused(folder, capsys, *parts):
    """The command ends with one message and exit code 2, and writes nothing."""
    assert main([str(folder)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    for part in parts:
        assert part in printed.err
    assert not (folder / "report.html").exists()


DAMAGED = {
    **{"empty": b"", "half": b"{", "a list": b"[]", "a number": b"3", "no text": b"\xff\xfe"},
    **{"deep": b"[" * 100_000, "nothing": b"{}", "a setting": b'{"settings": 3}'},
}


@pytest.mark.parametrize("name", ["config.json", "metrics.json"])
@pytest.mark.parametrize("content", DAMAGED)
def test_damaged_files_are_refused(of_training, capsys, name, content):
    (of_training / name).write_bytes(DAMAGED[content])
    refused(of_training, capsys, name)


@pytest.mark.parametrize("name", ["config.json", "metrics.json", "metrics.jsonl"])
def test_a_folder_in_place_of_a_file_is_refused(of_training, capsys, name):
    (of_training / name).unlink()
    (of_training / name).mkdir()
    refused(of_training, capsys, name, "Is a directory")


RANKINGS = {
    "no header": lambda lines: lines[1:],
    "a column less": lambda lines: [line.rpartition(",")[0] for line in lines],
    "a cell less": lambda lines: [*lines[:-1], lines[-1].rpartition(",")[0]],
    "a word for a rank": lambda lines: [*lines, "t2v,a,b,first,0.5,a,0.5,,,,,,,,"],
    "rank 0": lambda lines: [*lines, "t2v,a,b,0,0.5,a,0.5,,,,,,,,"],
    "another direction": lambda lines: [*lines, "x2y,a,b,1,0.5,a,0.5,,,,,,,,"],
    "no candidate": lambda lines: [*lines, "t2v,a,b,1,0.5,,,,,,,,,,"],
    "a huge cell": lambda lines: [*lines, "t2v," + "a" * 200_000 + ",b,1,0.5,a,0.5,,,,,,,,"],
    "an endless rank": lambda lines: [*lines, "t2v,a,b," + "9" * 5000 + ",0.5,a,0.5,,,,,,,,"],
}


@pytest.mark.parametrize("damage", RANKINGS)
def test_damaged_rankings_are_refused(of_training, capsys, damage):
    path = of_training / "rankings_last.csv"
    lines = RANKINGS[damage](path.read_text().splitlines())
    path.write_text("\n".join(lines) + "\n")
    refused(of_training, capsys, "rankings_last.csv", "is damaged")


def test_missing_rankings_are_missed_in_the_page_only(of_training):
    (of_training / "rankings_last.csv").unlink()
    assert read_main_rankings(read_run(of_training)) == ([], "rankings_last.csv is not there")


def test_rankings_of_another_result_are_not_shown(of_training):
    path = of_training / "rankings_last.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n")
    rankings, problem = read_main_rankings(read_run(of_training))
    assert (rankings, problem) == ([], "rankings_last.csv is of another result")


@pytest.mark.parametrize("content", ["half", "a list", "a number", "no text", "deep", "a setting"])
def test_what_is_no_record_of_a_training_is_refused(of_training, capsys, content):
    (of_training / METRICS).write_bytes(DAMAGED[content])
    refused(of_training, capsys, METRICS, "holds no record")


def test_without_records_there_are_no_curves(of_training):
    (of_training / METRICS).unlink()
    assert read_run(of_training).records == []


def places(values, path=()):
    """The way to every value in a JSON object."""
    for name, value in values.items() if isinstance(values, dict) else enumerate(values):
        yield (*path, name)
        if isinstance(value, dict | list):
            yield from places(value, (*path, name))


@pytest.mark.parametrize("name", ["metrics.json", "config.json"])
def test_any_value_anywhere_is_shown_or_refused(of_training, tmp_path, name):
    """Every value in turn is replaced by something else, or taken away."""
    (of_training / METRICS).unlink()  # whose charts would only take time
    chance = random.Random(0)
    content = json.loads((of_training / name).read_text())
    shown, refusals = 0, []
    for number, place in enumerate(places(content)):
        folder = copied(of_training, tmp_path / str(number))

        def spoil(values, place=place):
            for step in place[:-1]:
                values = values[step]
            if chance.random() < 0.2:
                del values[place[-1]]
            else:
                values[place[-1]] = chance.choice(VALUES)

        change(folder / name, spoil)
        try:
            page = render(read_run(folder), [], "none", Data({}, {}))
            assert "\x1b" not in page
            shown += 1
        except UserError as error:
            refusals.append(str(error))
        shutil.rmtree(folder)
    assert shown > 3
    assert len(refusals) > 3
    assert all(name in refusal for refusal in refusals)
