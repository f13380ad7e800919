"""What a report says, from real runs."""

import json
import re
import shutil
import sys
from itertools import pairwise

import pytest
from html_document import Document
from output_folders import HOSTILE, change, made_again, read, settings
from programs import run_program

from tvr.presets import deviations
from tvr.rankings import read_rankings
from tvr.report.page import shortened, value


def test_a_training_writes_it_last(trained):
    output, printed = trained
    assert printed.rstrip().splitlines()[-1].endswith(f"wrote {output / 'report.html'}")
    assert (output / "report.html").stat().st_size < 5_000_000


def test_it_tells_what_was_run(trained, training_page, evaluation_page):
    folder = trained[0]
    config = json.loads((folder / "config.json").read_text())
    for part in (
        *("Training of GARE", folder.name, config["command"], config["started"]),
        *("msrvtt 9k test: 13 of 1,000 videos, 13 captions", config["commit"]),
        *("checkpoint_last.pt (epoch 1, step 10)", "1 process on", "precision fp32"),
    ):
        assert part in training_page.text
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", config["started"])
    for part in ("Evaluation of GARE", f"{folder}/checkpoint_last.pt (epoch 1, step 10)"):
        assert part in evaluation_page.text


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"increment": "none"}, "Evaluation of the baseline, without Δ"),
        ({"init_model": None, "increment": "none"}, "Evaluation of CLIP alone, zero-shot"),
    ],
)
def test_other_kinds_of_runs(of_evaluation, changed, kind):
    settings(of_evaluation, report_examples=0, **changed)
    assert kind in made_again(of_evaluation).text


def test_it_warns_of_what_does_not_compare(of_training, training_page, evaluation_page):
    assert "The gallery is partial: 13 videos of 1,000, 13 captions" in training_page.text
    selected = "“best epoch by t2v R@1 on msrvtt 9k test, the test split itself” was selected"
    assert selected in training_page.text
    assert "was selected" not in evaluation_page.text

    def is_complete(content):
        content["protocol"] |= {"complete_gallery": True, "left_out": {"videos without a file": 7}}

    settings(of_training, report_examples=0)
    change(of_training / "metrics.json", is_complete)
    change(of_training / "config.json", lambda content: content["settings"].update(lr=7.0))
    text = made_again(of_training).text
    assert "gallery is partial" not in text
    assert "Left out: 7 videos without a file." in text
    assert "not of the same run, or it went on with other settings: lr." in text


def test_without_a_reason_there_is_no_warning(of_evaluation):
    settings(of_evaluation, report_examples=0)
    change(of_evaluation / "metrics.json", lambda c: c["protocol"].update(complete_gallery=True))
    assert "Before you compare" not in made_again(of_evaluation).text


def test_the_selected_checkpoint_has_its_validation_beside_it(of_training):
    def selects(content):
        content["settings"] |= {"protocol": "7k", "report_examples": 0}
        best = content["results"][1]
        validation = {name: {**best[name], "R@1": 12.3} for name in ("t2v", "v2t")}
        best |= {"label": "best epoch by t2v R@1 on msrvtt 7k val", "validation": validation}

    change(of_training / "metrics.json", selects)
    text = made_again(of_training).text
    assert "was selected" not in text
    assert "the same on the validation split text → video 12.3" in text


def test_it_has_a_bar_for_every_range_of_ranks(trained, training_page):
    rankings = read_rankings(trained[0] / "rankings_last.csv")
    ranks = [[r.rank for r in rankings if r.direction == name] for name in ("t2v", "v2t")]
    ranges = (("1", 1, 1), ("2 to 5", 2, 5), ("6 to 10", 6, 10), ("11 to 50", 11, 50))
    for name, first, last in ranges:
        counts = [sum(first <= rank <= last for rank in of_one) for of_one in ranks]
        shown = " ".join(f"{count} {100 * count / 13:.1f} %" for count in counts)
        assert f" {name} {shown} " in training_page.text
    assert "51 and more 0 0.0 % 0 0.0 %" in training_page.text


def test_without_rankings_it_says_why(of_training):
    (of_training / "rankings_last.csv").unlink()
    page = made_again(of_training)
    assert "No ranks and examples: rankings_last.csv is not there." in page.text
    assert not page.all("article")


def test_the_settings_that_are_not_the_papers(trained, training_page):
    config = json.loads((trained[0] / "config.json").read_text())
    assert config["not_the_papers"]
    for name, both in config["not_the_papers"].items():
        assert f" {name} {value(both['paper'])} {value(both['here'])} " in training_page.text
    assert f" decay {config['settings']['decay']} " in training_page.text
    assert f" torch {config['environment']['torch']} " in training_page.text


def test_an_evaluation_compares_what_the_checkpoint_was_trained_with(evaluated):
    metrics = json.loads((evaluated / "metrics.json").read_text())
    found = deviations(metrics["settings"])
    assert found["temp"] == (3.0, 5.0)
    assert "epochs" not in found


def test_nothing_but_the_papers_settings(of_evaluation):
    papers = {name: paper for name, (paper, _) in deviations(of_settings(of_evaluation)).items()}
    settings(of_evaluation, report_examples=0, **papers)
    assert "What the paper states is as in the paper." in made_again(of_evaluation).text


def of_settings(folder):
    return json.loads((folder / "metrics.json").read_text())["settings"]


def test_the_command_makes_the_same_page_again(trained, evaluated, tmp_path):
    """From the folder alone, in another process."""
    for folder in (trained[0], evaluated):
        copy = shutil.copytree(folder, tmp_path / folder.name)
        before = (copy / "report.html").read_bytes()
        (copy / "report.html").unlink()
        done = run_program(sys.executable, "-m", "tvr.report", copy)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"wrote {copy / 'report.html'}\n"
        assert (copy / "report.html").read_bytes() == before


def pages(trained, evaluated, long_training, hostile):
    return (trained[0] / "report.html", evaluated / "report.html", long_training, hostile)


def test_nothing_is_loaded_and_nothing_is_run(trained, evaluated, long_training, hostile):
    for path in pages(trained, evaluated, long_training, hostile):
        page = path.read_text("utf-8")
        found = Document(page)
        tags = {tag for tag, _ in found.elements}
        assert tags.isdisjoint({"script", "link", "iframe", "object", "embed", "base", "form"})
        for tag, attributes in found.elements:
            assert not any(name.startswith("on") for name in attributes), tag
            for name in {"src", "href", "srcset", "action"} & attributes.keys():
                assert attributes[name].startswith(("data:image/", "#")), tag
        assert re.search(r"@import|url\(", page) is None
        (policy,) = found.all("meta", **{"http-equiv": "Content-Security-Policy"})
        assert policy["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_its_elements_are_closed_and_its_headings_in_order(
    trained, evaluated, long_training, hostile
):
    for path in pages(trained, evaluated, long_training, hostile):
        page = path.read_text("utf-8")
        assert page.startswith("<!DOCTYPE html>\n")
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", page)
        found = Document(page)
        ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        for _, attributes in found.elements:
            assert attributes.get("aria-labelledby", ids[0]) in ids
            assert attributes.get("href", "#" + ids[0])[1:] in ids
        levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch("h[1-6]", tag)]
        assert levels[0] == 1
        assert all(b <= a + 1 for a, b in pairwise(levels))


def test_html_in_texts_stays_text(evaluated, hostile):
    found = read(hostile)
    harmless = {tag for tag, _ in read(evaluated / "report.html").elements}
    assert {tag for tag, _ in found.elements} <= harmless
    assert "30863" not in found.text
    for where in ("Split {}", "Ties {}", "3 {}", "device {}", "temp {}", "{} Rank", "Results {}"):
        assert where.replace("{}", HOSTILE) in found.text
    # of names that are not UTF-8
    assert "<b>caf\ufffd</b>/anns" in found.text
    assert "<script>alert(4)" in found.text


def test_a_long_text_is_cut():
    assert shortened("a" * 400) == "a" * 400
    assert shortened("a" * 401) == "a" * 399 + "…"


@pytest.mark.parametrize(
    ("setting", "shown"),
    [
        (None, "none"),
        (True, "1"),
        (False, "0"),
        (1e-4, "0.0001"),
        (0.0123456789, "0.0123456789"),
        (12, "12"),
        ("a b", "a b"),
    ],
)
def test_settings_are_shown_as_the_command_line_has_them(setting, shown):
    assert value(setting) == shown
