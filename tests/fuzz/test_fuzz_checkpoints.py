"""Checkpoints: torch's zip files, its older form and TorchScript archives, changed in every layer.

A change of a record gets the right checksum, and a change of a value is saved by torch itself, so
that they reach the code behind the first check.
"""

import functools
import io
import zipfile

import pytest
import torch
from hostile import VALUES, damaged, rearranged
from hypothesis import given
from hypothesis import strategies as st
from openai_files import module_tree

from tvr.checkpoint import load_model, read_checkpoint, read_state, trained_settings

KINDS = ("torch", "legacy", "script")


def small_model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))


def content():
    """A saved state of a training, with the weights of `small_model`."""
    return {
        "format": 1,
        "model": dict(small_model().state_dict()),
        "settings": {"temp": 3.0, "num_hidden_layers": 1, "padding": "mask"},
        "config": {"max_words": 16, "lr": 1e-4, "protocol": None, "do_train": True},
        "circumstances": {"processes": 1, "threads": 2, "torch": "2.11.0", "device": "a CPU"},
        "data": "0123456789abcdef",
        "moments": [{"step": torch.tensor(1.0), "exp_avg": torch.zeros(2, 3)}],
        "position": {"step": 1, "evaluated": 0, "skipped": 0, "results": {}},
    }


def saved(value, legacy=False):
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def script(state=None):
    """A TorchScript archive of these weights, or of those of `small_model`."""
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(module_tree(state or small_model().state_dict())), file)
    return file.getvalue()


@functools.cache
def odd_tensors():
    """Tensors that are no plain weights, or claim to be much larger than they are."""
    loop = []
    loop.append(loop)
    bomb = "x"
    for _ in range(40):
        bomb = [bomb, bomb]
    weight = torch.zeros(2, 3)
    return (
        *(loop, bomb, bytearray(5), {1, 2}, 1j, torch.float16, torch.Size([3]), b"bytes"),
        *(weight.int(), weight.half(), weight.T, weight * torch.nan, weight[:0], torch.tensor(1.0)),
        *(weight.to_sparse(), weight.to_sparse_csr(), weight.to("meta"), weight.to(torch.cfloat)),
        *(torch.zeros(1).expand(2, 3), torch.zeros(1).expand(2**40), torch.zeros(0, 2**40)),
        *(torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8), torch.nn.Parameter(weight)),
        *(torch.nested.nested_tensor([weight, weight[:1]]), weight.conj(), torch._neg_view(weight)),
    )


def read(folder, file=None):
    """Read a checkpoint in every way that the program does, into the model that it fits."""
    path = folder / "checkpoint.pt"
    if file is None:
        return
    path.write_bytes(file)
    found = read_checkpoint(path)
    assert str(trained_settings(path, found))
    load_model(small_model(), found, path)
    if "moments" in found:
        read_state(path)


@pytest.fixture(scope="module", params=KINDS)
def reader(request, child):
    return child(f"checkpoint: {request.param}", read)


@functools.cache
def files_of_each_kind():
    return {"torch": saved(content()), "legacy": saved(content(), True), "script": script()}


@st.composite
def files(draw, kind):
    """A file of this kind, damaged in its bytes, in a record, or in what was saved."""
    layer = draw(st.sampled_from(("bytes", "record", "record", "value")))
    if layer == "value" and kind != "script":
        hostile = draw(rearranged(content(), (*VALUES, *odd_tensors())))
        try:
            return saved(hostile, legacy=kind == "legacy")
        except Exception:  # not everything can be saved
            return files_of_each_kind()[kind]
    whole = files_of_each_kind()[kind]
    if layer == "bytes" or kind == "legacy":
        return draw(damaged(whole))
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    name = draw(st.sampled_from([n for n in records if n.endswith(".pkl")] * 5 + list(records)))
    records[name] = draw(damaged(records[name]))
    if draw(st.integers(0, 9)) == 0:
        records["../../outside/secret"] = records.pop(draw(st.sampled_from(list(records))))
    return zipped(records, draw(st.sampled_from((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))))


def zipped(records, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, record in records.items():
            archive.writestr(name, record)
    return file.getvalue()


def test_whole_checkpoints_are_read(reader):
    assert reader.judge(files_of_each_kind()[reader.name.split(": ")[1]]) == "accepted"


@given(data=st.data())
def test_checkpoints_are_read_or_refused(reader, data):
    reader.judge(data.draw(files(reader.name.split(": ")[1])))
