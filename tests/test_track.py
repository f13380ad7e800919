"""What a training records: metrics.jsonl, TensorBoard's events, config.json, and W&B if asked."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from caches import mounted
from programs import ENVIRONMENT, ROOT
from runs import MAIN, results, training
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tvr.build import Run
from tvr.config import Config
from tvr.track import Tracker, flat, read_records
from tvr.utils.distributed import Ranks
from tvr.utils.errors import LocalError
from tvr.utils.optim import schedule

EVALUATED = "msrvtt 9k test"


def tracker(folder, done=0, rank=0):
    run = Run(Config(output_dir=str(folder)), Ranks(rank, 0, 1), torch.device("cpu"), logging.root)
    return Tracker(run, done)


def scalars(folder):
    """TensorBoard's tags, each with its steps and values."""
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {
        tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def test_a_training_records_its_log_lines_and_evaluations(trained):
    folder, said = trained
    records = read_records(folder / "metrics.jsonl")
    lines = re.findall(r"step (\d+)/\d+  loss ([\d.]+) .* lr (\S+) ", said)
    train = [record for record in records if record["split"] == "train"]
    assert [(str(r["step"]), f"{r['loss']:.4g}", f"{r['lr/new']:.3g}") for r in train] == lines
    names = {"nce", "ib", "epsilon", "dir", "scale", "grad_norm", "clips/s", "wait", "memory"}
    names |= {"grad_norm/clip", "grad_norm/psi", "grad_norm/temporal", "lr/clip"}
    assert names | {"delta/norm", "delta/norm_sd"} <= train[0].keys()
    evaluations = [record for record in records if record["split"] == EVALUATED]
    last = results(folder)[1][0]
    assert {name: evaluations[-1][name] for name in flat(last)} == flat(last)


def test_gradient_norms_of_the_parts_make_up_the_whole(trained):
    first = read_records(trained[0] / "metrics.jsonl")[0]
    assert first["split"] == "train"
    parts = [value for name, value in first.items() if name.startswith("grad_norm/")]
    # means over steps, of norms: the whole lies between the largest part and the parts' sum
    assert max(parts) < first["grad_norm"] < sum(parts)


def test_tensorboard_has_the_same_numbers(trained):
    shown = scalars(trained[0])
    for record in read_records(trained[0] / "metrics.jsonl"):
        for name in record.keys() - {"step", "epoch", "split"}:
            found = dict(shown[f"{record['split']}/{name}"])
            assert found[record["step"]] == pytest.approx(record[name], rel=1e-6)


def test_config_json_says_what_ran(trained, shapes):
    content = json.loads((trained[0] / "config.json").read_text())
    assert content["command"].startswith("main_retrieval.py --do_train 1 ")
    assert f"--output_dir {trained[0]}" in content["command"]
    assert content["settings"]["anno_path"] == str(shapes / "anns")
    assert content["not_the_papers"]["temp"] == {"paper": 3.0, "here": 5.0}
    assert "alpha" not in content["not_the_papers"]
    assert {"python", "torch", "torchvision", "device", "cores"} <= content["environment"].keys()
    assert {"commit", "processes", "precision"} <= content.keys()


def test_an_evaluation_has_its_config_too(evaluated):
    content = json.loads((evaluated / "config.json").read_text())
    assert "--do_eval" in content["command"]
    assert content["not_the_papers"].keys() <= content["settings"].keys()
    assert "lr" not in content["settings"]


def test_records_that_come_again_after_an_interruption_replace_the_earlier(tmp_path):
    with tracker(tmp_path) as first:
        for step in (1, 2, 3):
            first.record(step, 1, "train", {"loss": float(step)})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "ep')  # killed while it wrote
    with tracker(tmp_path, done=2) as second:
        for step in (3, 4):
            second.record(step, 1, "train", {"loss": 10.0 * step})
    found = [(r["step"], r["loss"]) for r in read_records(tmp_path / "metrics.jsonl")]
    assert found == [(1, 1.0), (2, 2.0), (3, 30.0), (4, 40.0)]
    assert scalars(tmp_path)["train/loss"] == found


def test_another_training_in_the_folder_starts_anew(tmp_path):
    for loss in (1.0, 2.0):
        with tracker(tmp_path) as it:
            it.record(1, 1, "train", {"loss": loss})
    assert [r["loss"] for r in read_records(tmp_path / "metrics.jsonl")] == [2.0]
    assert scalars(tmp_path)["train/loss"] == [(1, 2.0)]


def test_a_killed_training_that_goes_on_has_every_record_once(call, shapes, tmp_path):
    flags = ("--epochs", 2, "--save_every", 2, "--n_display", 1, "--workers", 0)
    flags = training(shapes, tmp_path, *flags)
    command = [sys.executable, MAIN, *map(str, flags)]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and len(read_records(tmp_path / "metrics.jsonl")) < 6:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = call(*flags, "--resume", "auto")
    assert done.returncode == 0, done.stderr
    records = read_records(tmp_path / "metrics.jsonl")
    assert [r["step"] for r in records if r["split"] == "train"] == list(range(1, 21))
    assert [r["step"] for r in records if r["split"] == EVALUATED] == [10, 20]


def test_a_full_disk_is_said_in_one_message_and_what_was_there_before_is_kept(tmp_path):
    """The disk of TensorBoard's events, whose own writer ends with a thread's traceback."""
    with mounted(tmp_path / "tensorboard", "size=8k") as disk:
        with tracker(tmp_path) as first:
            first.record(1, 1, "train", {"loss": 1.0})
            other = disk / "other"
            other.write_bytes(bytes(4096))
            values = {f"loss{number}": 0.0 for number in range(200)}  # more than a page
            with pytest.raises(LocalError, match=r"/events\S+: cannot be written \(No space left"):
                first.record(2, 1, "train", values)
        other.unlink()
        with tracker(tmp_path, done=1) as second:
            second.record(2, 1, "train", {"loss": 20.0})
        assert scalars(tmp_path) == {"train/loss": [(1, 1.0), (2, 20.0)]}
    assert [r["loss"] for r in read_records(tmp_path / "metrics.jsonl")] == [1.0, 20.0]


def test_only_the_main_process_writes(tmp_path):
    with tracker(tmp_path, rank=1) as it:
        it.record(1, 1, "train", {"loss": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_values_that_json_has_no_word_for_are_left_out(tmp_path):
    with tracker(tmp_path) as it:
        it.record(1, 1, "train", {"loss": float("nan"), "scale": 14.0, "grad_norm": float("inf")})
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line, parse_constant=pytest.fail)["scale"] == 14.0


@pytest.mark.parametrize(
    "line", ["", "[]", "null", '{"step": "1"}', "[" * 5000, '{"step": 1}', "\0"]
)
def test_lines_that_are_no_records_are_passed_over(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f'{line}\n{{"step": 7, "epoch": 1, "split": "train"}}\n')
    assert [record["step"] for record in read_records(path)] == [7]


def test_more_evaluations_than_epochs_and_the_best_of_them(call, shapes, tmp_path):
    done = call(*training(shapes, tmp_path, "--eval_every", 4, "--workers", 0, "--save_every", 0))
    assert done.returncode == 0, done.stderr
    records = [r for r in read_records(tmp_path / "metrics.jsonl") if r["split"] == EVALUATED]
    assert [record["step"] for record in records] == [4, 8, 10]
    content, _ = results(tmp_path)
    last, best = content["results"]
    assert (last["step"], last["label"]) == (10, "last epoch")
    highest = max(record["t2v/R@1"] for record in records)
    first = next(record["step"] for record in records if record["t2v/R@1"] == highest)
    assert (best["step"], best["t2v"]["R@1"]) == (first, highest)
    assert best["label"].startswith("best step by t2v R@1")


def test_the_schedule_may_be_of_other_epochs(call, shapes, tmp_path):
    flags = ("--schedule_epochs", 2, "--n_display", 1, "--workers", 0, "--save_every", 0)
    assert call(*training(shapes, tmp_path, *flags)).returncode == 0
    rates = [r["lr/new"] for r in read_records(tmp_path / "metrics.jsonl") if r["split"] == "train"]
    assert rates == pytest.approx([1e-3 * schedule(step, 20, 0.1) for step in range(10)])


def test_wandb_gets_the_same_when_asked(call, shapes, tmp_path, monkeypatch):
    """W&B itself, which without a network writes its run to the output folder."""
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    done = call(*training(shapes, tmp_path, "--wandb", "gare", "--workers", 0, "--save_every", 0))
    assert done.returncode == 0, done.stderr
    name = (tmp_path / "wandb_run").read_text()
    (written,) = tmp_path.glob(f"wandb/offline-run-*-{name}/run-{name}.wandb")
    assert b"grad_norm" in written.read_bytes()


def test_wandb_that_is_not_installed_is_noticed_first(call, shapes, tmp_path, monkeypatch):
    monkeypatch.setattr("tvr.checks.find_spec", lambda name: None)
    done = call(*training(shapes, tmp_path / "output", "--wandb", "gare"))
    assert done.returncode == 2
    assert "--wandb gare: wandb is not installed" in done.stderr
    assert not (tmp_path / "output").exists()
