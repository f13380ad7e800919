"""Small files that ask for much: each is refused, in little memory, and runs nothing."""

import io
import json
import os
import pickle
import struct
import zipfile

import faiss
import numpy as np
import pytest
import torch
from openai_files import random_state
from safetensors import safe_open
from safetensors.numpy import load, save
from test_fuzz_annotations import read as read_annotations
from test_fuzz_checkpoints import content, read, saved, script, small_model, zipped
from test_fuzz_index import FILES, made_up, sealed
from test_fuzz_index import read as read_index

from tvr.models.clip import build_backbone

MIB = 2**20
BLOCK = torch.zeros(2 * MIB)
FIRST = b"}q\x00(X\x06\x00\x00\x00format"  # how the pickle of `content` begins
BYTE_ARRAY = b"cbuiltins\nbytearray\nJ" + struct.pack("<i", 900 * MIB) + b"\x85R"
BYTE_ARRAY_8 = b"\x96" + struct.pack("<Q", 900 * MIB)  # an array of 900 MiB, in nine bytes
PAIRS = b")" + b"q\x00h\x00\x86" * 40  # (), and 40 times a tuple that holds the last one twice
PAIRS_AS_KEY = b"}" + PAIRS + b"K\x01s"
MODULE = b"c__torch__\nM\n)\x81"
MODULES = MODULE + b"}b" + (b"q\x00" + MODULE + b"}(X\1\0\0\0ah\0X\1\0\0\0bh\0ub") * 40
ENCODE = b"c_codecs\nencode\n"
DIGITS = ENCODE + b"X\1\0\0\0aX\6\0\0\0latin1\x86R"  # b"a", and then digits of its digits
DIGITS += (b"q\x00" + ENCODE + b"h\x00X\3\0\0\0hex\x86R") * 30


class Hostile:
    """Runs a program when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch canary",)


def with_pickle(whole, pickled, compression=zipfile.ZIP_STORED):
    """A zip file of weights whose pickle is another one."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    (name,) = (name for name in records if name.endswith("/data.pkl"))
    return zipped({**records, name: pickled}, compression)


def stored(count):
    """A script's pickle with a parameter of so many bytes, whose key looks like code."""
    storage = b"(X\7\0\0\0storagectorch\nBoolStorage\nX\x08\0\0\x000/code/xX\3\0\0\0cpu"
    size = b"J" + struct.pack("<i", count)
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + size + b"tQK\0" + size + b"\x85K\1\x85"
    )
    return b"\x80\x02" + MODULE + b"}X\1\0\0\0w" + tensor + b"\x89NtRsb."


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
    "a zip file makes 900 MiB": lambda: with_pickle(
        saved(content()), b"\x80\x02" + BYTE_ARRAY + b"."
    ),
    "an old file makes 900 MiB": lambda: saved(content(), legacy=True).replace(
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
    "100 views of 8 MiB": lambda: saved({f"v{i}": BLOCK[i:] for i in range(100)}),
    "a compressed pickle makes 900 MiB": lambda: with_pickle(
        saved(content()), b"\x80\x02" + BYTE_ARRAY + b".", zipfile.ZIP_DEFLATED
    ),
    "a script makes 900 MiB": lambda: with_pickle(script(), b"\x80\x05" + BYTE_ARRAY_8 + b"."),
    "a storage that looks like code inflates to 512 MiB": lambda: zipped(
        {
            "a/code/x": b"",
            "a/data.pkl": stored(512 * MIB),
            "a/data/0/code/x": bytes(512 * MIB),
        },
        zipfile.ZIP_DEFLATED,
    ),
    "a key without end": lambda: with_pickle(saved(content()), b"\x80\x02" + PAIRS_AS_KEY + b"."),
    "an old file's key without end": lambda: saved(content(), legacy=True).replace(
        FIRST, PAIRS_AS_KEY + FIRST
    ),
    "a script's key without end": lambda: with_pickle(script(), b"\x80\x02" + PAIRS_AS_KEY + b"."),
    "a script's storage without end": lambda: with_pickle(
        script(), b"\x80\x02(K\0K\0" + PAIRS + b"K\0K\0tQ."
    ),
    "modules without end": lambda: with_pickle(script(), b"\x80\x02" + MODULES + b"."),
    "digits of digits": lambda: with_pickle(saved(content()), b"\x80\x02" + DIGITS + b"."),
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


def build(folder, file=None):
    """Make the encoder that a file of weights describes by their shapes."""
    if file is not None:
        (folder / "clip.pt").write_bytes(file)
        build_backbone(str(folder / "clip.pt"))


def test_an_encoder_takes_memory_for_weights_that_are_there(child):
    reader, state = child("bombs: encoder", build), random_state()
    assert reader.judge(saved(state)) == "accepted"
    wide = {**state, "visual.conv1.weight": torch.zeros(6400, 0, 8, 8)}
    assert reader.judge(saved(wide)) == "refused"


MANIFESTS = {
    "another folder's shard": {"shards": [["../../outside/secret", []]]},
    "an absolute shard": {"shards": [["/etc/passwd", []]]},
    "another folder's vectors": {"vectors": "../../outside/secret"},
    "vectors with a zero byte": {"vectors": "a\0b"},
    "vectors that are a number": {"vectors": 5},
    "a size that is a list": {"vectors_bytes": []},
    "an endless row": {"shards": [[FILES[1], [float("inf")]]]},
    "a shard a thousand times": {"shards": [[FILES[1], []]] * 1000},
    "a nested text": b"[" * 100_000,
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_leads_elsewhere_is_refused(child, tmp_path, name):
    files, changes = made_up(tmp_path), MANIFESTS[name]
    whole = changes
    if isinstance(changes, dict):
        whole = json.dumps(json.loads(files[FILES[0]]) | changes).encode()
    reader = child("bombs: index", read_index)
    assert reader.judge(sealed({**files, FILES[0]: whole})) == "refused"
    assert reader.judge(files) == "accepted"


def test_an_index_of_no_videos_or_the_same_ones_twice_is_refused(child, tmp_path):
    files, reader = made_up(tmp_path), child("bombs: index", read_index)
    manifest = json.loads(files[FILES[0]])
    for shards, times in (([], 0), ([[FILES[1], [0, 1, 2]]], 0), ([[FILES[1], []]] * 2, 2)):
        vectors = faiss.IndexFlatIP(4)
        vectors.add(np.tile(np.eye(3, 4, dtype=np.float32), (times, 1)))
        files |= {FILES[0]: json.dumps({**manifest, "shards": shards}).encode()}
        files |= {FILES[2]: faiss.serialize_index(vectors).tobytes()}
        assert reader.judge(sealed(files)) == "refused"


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
    assert reader.judge(sealed({**files, FILES[1]: hostile})) == "refused"


@pytest.mark.parametrize("seconds", ["1e308", "1" + "0" * 400, "1e999", "NaN", "-1", "true"])
def test_a_duration_that_no_video_has_is_refused(child, seconds):
    said = f'{{"v_1": {{"duration": {seconds}, "sentences": ["It ends."]}}}}'
    ids = b'["v_1"]'
    files = {"train_ids.json": b'["v_2"]', "val_ids.json": ids, "val_1.json": said.encode()}
    reader = child("bombs: annotations", read_annotations)
    assert reader.judge("activity", files, ["v_1.mp4"]) == "refused"
    files["val_1.json"] = files["val_1.json"].replace(seconds.encode(), b"3")
    assert reader.judge("activity", files, ["v_1.mp4"]) == "accepted"


PICKLES = {
    "an array of 900 MiB": b"\x80\x05" + BYTE_ARRAY_8 + b".",
    "a key without end": b"\x80\x02" + PAIRS_AS_KEY + b".",
    "a set without end": b"\x80\x04\x8f(" + PAIRS + b"\x90.",
    "one caption a hundred thousand times": b"\x80\x02}X\1\0\0\0v(X\0\x80\0\0"
    + b"a" * 2**15
    + b"q\x00"
    + b"h\x00" * 100_000
    + b"ls.",
}


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_of_captions_that_asks_for_much_is_refused(child, name):
    files = {f"{split}_list.txt": split.encode() for split in ("train", "val")}
    files |= {"test_list.txt": b"v", "raw-captions.pkl": PICKLES[name]}
    reader = child("bombs: annotations", read_annotations)
    assert reader.judge("msvd", files, ["v.avi"]) == "refused"
    files["raw-captions.pkl"] = pickle.dumps({"v": [["a", "cat"]]})
    assert reader.judge("msvd", files, ["v.avi"]) == "accepted"
