"""The benchmark of the training step, small: its figures hang together, its parts are the step."""

import json
import sys

import pytest
import torch
from programs import run_program
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.made_up import trainee
from benchmarks.step_parts import PARTS, Clock, model_flops, step_in_parts
from benchmarks.train_step import main
from tvr.config import Config
from tvr.step import StepSettings, gradients

SMALL = "--batch_size 4 --batches 2 --num_hidden_layers 1 --warmup 1 --steps 2 --rounds 1"
SETTINGS = {
    "do_train": True,
    "base_encoder": "tiny",
    "num_hidden_layers": 1,
    "batch_size": 4,
    "max_frames": 2,
    "max_words": 10,
    "device": "cpu",
    "lr": 1e-3,
}


def test_variants_take_the_same_steps_and_every_figure_is_there(tmp_path):
    out = tmp_path / "step.json"
    names = ["plain", "chunked", "checkpointed+literal"]
    command = f"-m benchmarks.train_step {SMALL} --variants {','.join(names)} --project 9000"
    done = run_program(sys.executable, *command.split(), "--threads", "1", "--json", out)
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    rows, parts = figures["rows"], figures["parts"]
    assert [row["variant"] for row in rows] == [part["variant"] for part in parts] == names
    for row, part in zip(rows, parts, strict=True):
        assert row["largest relative difference of the loss"] < 1e-5
        assert row["clips/s"] == pytest.approx(4000 / row["ms per step"])
        assert row["hours for 9,000 clips"] == pytest.approx(9000 / row["clips/s"] / 3600)
        assert row["peak MiB"] > 0
        assert sum(part[f"{name}, %"] for name in PARTS) == pytest.approx(100)
        assert row["variant"] in done.stdout
    flops = [row["model TFLOP per step"] for row in rows]
    assert flops[0] == flops[1] != flops[2]


@pytest.mark.parametrize("settings", [{}, {"chunk_size": 3}, {"context": "words"}])
def test_a_step_in_parts_is_the_step(settings):
    config = Config(**SETTINGS, **settings)
    whole, in_parts = trainee(config, batches=1), trainee(config, batches=1)
    whole.train(2)
    for step in range(2):
        clock = Clock(torch.device("cpu"))
        values = step_in_parts(in_parts.learner, in_parts.batches[0], step, clock)
        for name, value in values.items():
            expected = whole.observed[step].numbers()[name]
            assert value.item() == pytest.approx(expected, rel=1e-6), name
    assert set(clock.seconds) == set(PARTS)
    models = (whole.learner.model, in_parts.learner.model)
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("scoring", ["fast", "literal"])
def test_operations_are_those_of_a_step_that_really_runs(scoring):
    config = Config(**SETTINGS, scoring=scoring)
    it = trainee(config, batches=1)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        settings = StepSettings.of(it.learner.run)
        gradients(it.learner.model, it.learner.encoders, it.batches[0], settings)
    assert model_flops(config, it.batches[0]) == counter.get_total_flops()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--variants plain,faster", "--variants faster"),
        ("--max_words 99", "--max_words 99"),
        ("--base_encoder none", "--base_encoder none"),
    ],
)
def test_unknown_variants_and_settings_are_refused(flags, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train_step", "--threads", "1", *flags.split()])
    assert main() == 2
    assert said in capsys.readouterr().err
