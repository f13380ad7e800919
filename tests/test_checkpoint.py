"""Checkpoints: what is written is read again, half files are never left, strange ones refused."""

import json
import os

import pytest
import torch

from tvr.checkpoint import (
    load_model,
    read_checkpoint,
    save_checkpoint,
    trained_settings,
    write_json,
)
from tvr.models.clip import build_backbone
from tvr.models.gare import GARE, ModelSettings
from tvr.utils.errors import UserError

SETTINGS = {"base_encoder": "tiny", "num_hidden_layers": 2, "temp": 3.0}


def model(**settings):
    return GARE(build_backbone("tiny"), ModelSettings(**{**SETTINGS, **settings}))


@pytest.fixture(scope="module")
def gare():
    torch.manual_seed(0)
    return model()


@pytest.fixture
def saved(gare, tmp_path):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, gare, config={"max_words": 16}, epoch=3)
    return path


def test_what_is_saved_is_read_again(gare, saved):
    torch.manual_seed(1)
    other = model()
    content = read_checkpoint(saved)
    assert load_model(other, content, saved) == []
    for name, tensor in gare.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)
    assert content["epoch"] == 3
    wanted = {"temp": 3.0, "num_hidden_layers": 2, "max_words": 16}
    assert wanted.items() <= trained_settings(saved, content).items()
    assert [path.name for path in saved.parent.iterdir()] == ["checkpoint.pt"]


def test_a_failing_save_keeps_the_previous_file(gare, saved):
    before = saved.read_bytes()
    with pytest.raises(Exception, match="pickle"):
        save_checkpoint(saved, gare, metrics=lambda: None)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == ["checkpoint.pt"]


def test_json_is_replaced_whole(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"R@1": 1})
    with pytest.raises(TypeError):
        write_json(path, {"R@1": object()})
    assert json.loads(path.read_text()) == {"R@1": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]


def test_json_may_name_files_that_are_not_utf8(tmp_path):
    path, name = tmp_path / "config.json", os.fsdecode(b"/data/caf\xe9 \xe2\x88\x9a")
    write_json(path, {"video_path": name})
    assert json.loads(path.read_text("utf-8")) == {"video_path": name}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"increment": "none"}, "unknown psi."),
        ({"agg_module": "seqLSTM"}, "missing temporal.lstm"),
        ({"num_hidden_layers": 1}, "unknown temporal.transformer.resblocks.1"),
    ],
)
def test_another_model_is_refused_with_the_differences(saved, settings, named):
    with pytest.raises(UserError, match="does not fit") as caught:
        load_model(model(**settings), read_checkpoint(saved), saved)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        {"format": 2, "model": {}},
        {"format": torch.zeros(2), "model": {}},
        {"format": 1, "model": {"a": 1}},
        {"format": 1},
        {"model": [torch.zeros(1)]},
        {"epoch": 1},
        {1: torch.zeros(1)},
        [torch.zeros(1)],
    ],
    ids=repr,
)
def test_files_that_are_no_checkpoint(tmp_path, content):
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(UserError, match=r"odd\.pt"):
        read_checkpoint(tmp_path / "odd.pt")


# the last has a tensor in `config` that `settings` would hide
@pytest.mark.parametrize(
    "facts",
    [
        {"settings": 3},
        {"config": []},
        {"settings": {"tempo": 1}},
        {"config": {"temp": torch.zeros(2)}, "settings": {"temp": 3.0}},
    ],
)
def test_settings_that_are_none(tmp_path, facts):
    torch.save({"format": 1, "model": {"a": torch.zeros(1)}, **facts}, tmp_path / "odd.pt")
    path = tmp_path / "odd.pt"
    with pytest.raises(UserError, match=r"odd\.pt"):
        trained_settings(path, read_checkpoint(path))
