"""The worked examples of docs/extending.md: their code, put into a copy of the program, works."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from programs import ROOT, run_program
from runs import training

from tvr.track import read_records

PAGE = (ROOT / "docs/extending.md").read_text()
NEW_FILE = re.compile(r"`([\w/.]+)`:\n\n```python\n(.*?)```", re.DOTALL)
CHANGE = re.compile(r"```diff\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the program with all examples in it."""
    folder = tmp_path_factory.mktemp("extended")
    shutil.copytree(ROOT / "tvr", folder / "tvr", ignore=shutil.ignore_patterns("*.pt", "__py*"))
    shutil.copy(ROOT / "main_retrieval.py", folder)
    for name, code in NEW_FILE.findall(PAGE):
        (folder / name).write_text(code)
    for change in CHANGE.findall(PAGE):
        applied = subprocess.run(
            ["git", "apply", "-"], cwd=folder, input=change, text=True, capture_output=True
        )
        assert applied.returncode == 0, applied.stderr
    return folder


@pytest.fixture(scope="module")
def cooking(shapes, tmp_path_factory):
    """The made-up set's captions in the format of the example."""
    content = json.loads((shapes / "anns/MSRVTT_data.json").read_text())
    videos = [video["video_id"] for video in content["videos"]]
    splits = {"train": videos[:20], "val": videos[20:24], "test": videos[24:36]}
    folder = tmp_path_factory.mktemp("cooking")
    for split, ids in splits.items():
        captions = [s for s in content["sentences"] if s["video_id"] in ids]
        rows = [{"clip": s["video_id"], "text": s["caption"]} for s in captions]
        (folder / f"cooking_{split}.json").write_text(json.dumps(rows))
    return folder


def run(folder, *command):
    done = run_program(sys.executable, *command, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_new_benchmark_is_one_file_of_under_60_lines():
    ((name, code),) = NEW_FILE.findall(PAGE)
    assert name == "tvr/dataloaders/cooking.py"
    assert len(code.splitlines()) < 60


def test_a_new_benchmark_is_checked_trained_and_evaluated(extended, cooking, shapes, tmp_path):
    data = ("--datatype", "cooking", "--anno_path", cooking, "--video_path", shapes / "videos_3fps")
    report = tmp_path / "check.csv"
    run(extended, "-m", "tvr.dataloaders.check", *data, "--csv", report)
    flags = (*training(shapes, tmp_path / "run", *data), "--allow_partial_gallery", 0)
    run(extended, "main_retrieval.py", *flags)
    content = json.loads((tmp_path / "run/metrics.json").read_text())
    assert content["protocol"]["videos"] == 12
    assert content["protocol"]["complete_gallery"]
    assert content["protocol"]["captions"] == 60
    assert content["results"][1]["label"].endswith("cooking standard val")


def test_the_new_benchmark_refuses_what_it_cannot_use(extended, cooking, shapes, tmp_path):
    shutil.copytree(cooking, tmp_path / "anns")
    (tmp_path / "anns/cooking_test.json").write_text('[{"clip": 7, "text": "x"}]')
    data = ("--datatype", "cooking", "--anno_path", tmp_path / "anns")
    command = ("main_retrieval.py", *training(shapes, tmp_path / "run", *data))
    done = run_program(sys.executable, *command, cwd=extended)
    assert done.returncode == 2
    assert "cooking_test.json, entry 1: clip is 7, a name is needed" in done.stderr


def test_a_new_backbone_and_a_new_loss_train(extended, shapes, tmp_path):
    flags = ("--base_encoder", "narrow", "--hinge", 0.5, "--save_every", 0)
    run(extended, "main_retrieval.py", *training(shapes, tmp_path, *flags))
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert content["settings"]["base_encoder"] == "narrow"
    first = next(r for r in read_records(tmp_path / "metrics.jsonl") if r["split"] == "train")
    weighted = 0.07 * first["ib"] + 0.01 * first["epsilon"] + 0.01 * first["dir"]
    assert first["loss"] == pytest.approx(first["nce"] + weighted + 0.5 * first["hinge"], rel=1e-5)
    assert first["hinge"] > 0


LOOP = """
import torch
from tvr.models.losses import hinge_loss
sim = torch.randn(5, 5, dtype=torch.double)
total = 0.0
for i in range(5):
    over = [max(0.0, 0.2 - float(sim[i, i]) + float(sim[i, j])) for j in range(5) if j != i]
    total += sum(over) / 4 / 5
torch.testing.assert_close(float(hinge_loss(sim)), total)
"""


def test_the_new_loss_is_its_equation(extended):
    run(extended, "-c", LOOP)
