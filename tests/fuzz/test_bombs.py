"""Small files that ask for much: each is refused, in little memory, and runs nothing."""

import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load, save
from test_fuzz_annotations import read as read_annotations
from test_fuzz_checkpoints import content, read, saved, script, small_model, zipped
from test_fuzz_index import FILES, made_up
from test_fuzz_index import read as read_index

MIB = 2**20
BLOCK = torch.zeros(2 * MIB)
FIRST = b"}q\x00(X\x06\x00\x00\x00format"  # how the pickle of `content` begins
BYTE_ARRAY = b"cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R"  # bytearray(2**31 - 1)


class Hostile:
    """Runs a program when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch canary",)


def with_pickle(whole, pickled):
    """A zip file of weights whose pickle is another one."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    (name,) = (name for name in records if name.endswith("/data.pkl"))
    return zipped({**records, name: pickled})


def weights(tensor):
    return saved({"model": {"0.weight": tensor, "0.bias": torch.zeros(2)}})


def shared(levels):
    """A list that holds a list twice, which holds another twice: few bytes, 2^levels values."""
    value = "x"
    for _ in range(levels):
        value = [value, value]
    return value


BOMBS = {
    "a record that inflates to 512 MiB": lambda: zipped(
        {"a/data.pkl": b"\x80\x02}.", "a/data/0": bytes(512 * MIB), "a/version": b"3\n"},
        zipfile.ZIP_DEFLATED,
    ),
    "code that inflates to 512 MiB": lambda: zipped(
        {"a/code/x.py": bytes(512 * MIB), "a/data.pkl": b"\x80\x02}."}, zipfile.ZIP_DEFLATED
    ),
    "a zip file makes 2 GiB": lambda: with_pickle(
        saved(content()), b"\x80\x02" + BYTE_ARRAY + b"."
    ),
    "an old file makes 2 GiB": lambda: saved(content(), legacy=True).replace(
        FIRST, BYTE_ARRAY + b"0" + FIRST
    ),
    "a script's pickle reserves 32 GB": lambda: with_pickle(
        script(), b"\x80\x02}r\xff\xff\xff\x7f."
    ),
    "a tensor of 2^40 numbers": lambda: weights(torch.zeros(1).expand(2**40)),
    "100 tensors of a script share 8 MiB": lambda: script({f"v{i}": BLOCK[i:] for i in range(100)}),
    "a sparse tensor": lambda: weights(torch.zeros(2, 3).to_sparse()),
    "a tensor without numbers": lambda: weights(torch.zeros(2, 3, device="meta")),
    "a format without end": lambda: saved({**content(), "format": shared(60)}),
    "a setting without end": lambda: saved({**content(), "config": {"lr": shared(60)}}),
    "a program": lambda: saved({"model": Hostile()}),
    "a program in a script": lambda: with_pickle(script(), pickle.dumps(Hostile(), protocol=2)),
}


@pytest.fixture(scope="module")
def reader(child):
    return child("bombs: checkpoint", read)


@pytest.mark.parametrize("name", BOMBS)
def test_a_checkpoint_that_asks_for_much_is_refused(reader, name):
    assert reader.judge(BOMBS[name]()) == "refused"
    assert not (reader.folder.parent.parent / "canary").exists()


def test_a_valid_checkpoint_is_read(reader):
    assert reader.judge(saved(content())) == "accepted"
    assert reader.judge(saved(dict(small_model().state_dict()), legacy=True)) == "accepted"
    assert reader.judge(script()) == "accepted"


MANIFESTS = {
    "another folder's shard": {"shards": [["../../outside/secret", []]]},
    "an absolute shard": {"shards": [["/etc/passwd", []]]},
    "another folder's vectors": {"vectors": "../../outside/secret"},
    "vectors with a zero byte": {"vectors": "a\0b"},
    "vectors that are a number": {"vectors": 5},
    "a size that is a list": {"vectors_bytes": []},
    "an endless row": {"shards": [[FILES[1], [float("inf")]]]},
    "a nested text": b"[" * 100_000,
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_leads_elsewhere_is_refused(child, tmp_path, name):
    files, changes = made_up(tmp_path), MANIFESTS[name]
    whole = changes
    if isinstance(changes, dict):
        whole = json.dumps(json.loads(files[FILES[0]]) | changes).encode()
    reader = child("bombs: index", read_index)
    assert reader.judge({**files, FILES[0]: whole}) == "refused"
    assert reader.judge(files) == "accepted"


SHARDS = {
    "previews beyond the end": {"ends_B": np.array([3, 3, 9])},
    "previews backwards": {"ends_B": np.array([8, 3, 8])},
    "fewer masks": {"mask_BF": np.ones((2, 2), bool)},
    "wider means": {"mean_BD": np.zeros((3, 9), np.float32)},
    "whole numbers": {"frames_BFD": np.zeros((3, 2, 4), np.int64)},
}


@pytest.mark.parametrize("name", SHARDS)
def test_a_shard_whose_parts_do_not_fit_is_refused(child, tmp_path, name):
    files = made_up(tmp_path)
    with safe_open(tmp_path / FILES[1], "numpy") as shard:
        metadata = shard.metadata()
    hostile = save(load(files[FILES[1]]) | SHARDS[name], metadata)
    reader = child("bombs: index", read_index)
    assert reader.judge({**files, FILES[1]: hostile}) == "refused"


@pytest.mark.parametrize("seconds", ["1e308", "1" + "0" * 400, "1e999", "NaN", "-1", "true"])
def test_a_duration_that_no_video_has_is_refused(child, seconds):
    said = f'{{"v_1": {{"duration": {seconds}, "sentences": ["It ends."]}}}}'
    ids = b'["v_1"]'
    files = {"train_ids.json": b'["v_2"]', "val_ids.json": ids, "val_1.json": said.encode()}
    reader = child("bombs: annotations", read_annotations)
    assert reader.judge("activity", files, ["v_1.mp4"]) == "refused"
    files["val_1.json"] = files["val_1.json"].replace(seconds.encode(), b"3")
    assert reader.judge("activity", files, ["v_1.mp4"]) == "accepted"
