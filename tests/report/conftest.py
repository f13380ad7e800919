"""Output folders of real runs to report on: as they are, of a long training, and hostile."""

import csv
import json
import os
import shutil

import pytest
from output_folders import FILE_NAME, HOSTILE, change, copied, read, record, spoil
from runs import evaluation, program

from tvr.report.page import write_page
from tvr.track import METRICS


@pytest.fixture
def of_training(trained, tmp_path):
    """A copy of a training's folder, without weights and report."""
    return copied(trained[0], tmp_path / "training")


@pytest.fixture
def of_evaluation(evaluated, tmp_path):
    """A copy of an evaluation's folder."""
    return copied(evaluated, tmp_path / "evaluation")


@pytest.fixture(scope="session")
def long_training(trained, tmp_path_factory):
    """The report of a training with many log lines, all charts and two evaluations."""
    folder = copied(trained[0], tmp_path_factory.mktemp("long") / "run")
    records = [record(step) for step in range(2, 502, 2)]
    records += [
        {"step": step, "epoch": 1, "split": "val", "t2v/R@1": step / 20, "v2t/R@1": step / 30}
        for step in (250, 500)
    ]
    (folder / METRICS).write_text("".join(json.dumps(each) + "\n" for each in records))
    return write_page(folder)


@pytest.fixture(scope="session")
def hostile(shapes, trained, tmp_path_factory):
    """The report of a real evaluation of captions, files and folders with names of all kinds."""
    folder = tmp_path_factory.mktemp("hostile") / os.fsdecode(b"<b>caf\xe9</b>")
    (folder / "videos").mkdir(parents=True)
    with (shapes / "anns" / "MSRVTT_JSFUSION_test.csv").open() as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows):
        name = f"{FILE_NAME}{number}"
        found = shapes / "videos_3fps" / f"{row['video_id']}.mp4"
        shutil.copy(found, folder / "videos" / f"{name}.mp4")
        row |= {"video_id": name, "sentence": HOSTILE * (1 + number % 2 * 100)}
    (folder / "anns").mkdir()
    with (folder / "anns" / "MSRVTT_JSFUSION_test.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)
    output = folder / "<script>alert(4)<\u2215script>"
    flags = evaluation(shapes, trained[0] / "checkpoint_last.pt", output)
    own = ("--anno_path", folder / "anns", "--video_path", folder / "videos")
    done = program(*flags, *own)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    change(output / "metrics.json", spoil)
    return write_page(output)


@pytest.fixture(scope="session")
def training_page(trained):
    return read(trained[0] / "report.html")


@pytest.fixture(scope="session")
def evaluation_page(evaluated):
    return read(evaluated / "report.html")
