"""Every form of what `torch.save` writes, and zip files whose directories are damaged or lie."""

import re
import struct
import zipfile

import pytest
import torch
from test_archive import assert_same_tensors, awkward_tensors

from tvr.models.archive import read_weights
from tvr.utils.errors import UserError

both_forms = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


@both_forms
def test_all_that_a_training_keeps_is_as_torch_reads_it(tmp_path, zipped):
    """Parameters, a module's state dict with versions, an optimiser's state, empty tensors."""
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(module.parameters(), foreach=False)
    module(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    tied = torch.randn(40, 30)
    content = {
        "model": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "twice": [tied, tied.T, {"again": tied}],
        "empty": torch.zeros(0, 3),
        "small": [torch.arange(3, dtype=d) for d in (torch.int8, torch.uint8, torch.int16)],
        "plain": (1, -(2**70), 2.5, None, True, "🐕", {3: [], 0.5: ()}),
    }
    path = tmp_path / "state.pt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    found, expected = read_weights(path), torch.load(path, weights_only=True)
    assert same(found, expected)
    one, turned, again = found["twice"]
    assert one.data_ptr() == turned.data_ptr() == again["again"].data_ptr()


def same(one, other):
    """Whether nested containers hold the same, tensors bit for bit."""
    if isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in other)
    if isinstance(other, list | tuple):
        return type(one) is type(other) and all(map(same, one, other)) and len(one) == len(other)
    return type(one) is type(other) and one == other


@pytest.mark.parametrize("change", [torch._neg_view, torch.Tensor.conj], ids=["neg", "conj"])
@both_forms
def test_a_tensor_that_stands_for_other_numbers_is_refused(tmp_path, change, zipped):
    path = tmp_path / "odd.pt"
    odd = {"weight": change(torch.ones(2, dtype=torch.cfloat)).imag}
    assert odd["weight"].is_neg()
    torch.save(odd, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match="not a readable weights file"):
        read_weights(path)


def test_a_zip_file_in_the_form_for_more_than_4_gb(tmp_path, monkeypatch):
    path, large = tmp_path / "state.pt", tmp_path / "large.pt"
    torch.save(awkward_tensors(), path)
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 0)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(large, "w") as target:
        for name in source.namelist():
            with target.open(name, "w", force_zip64=True) as record:
                record.write(source.read(name))
    assert b"PK\x06\x06" in large.read_bytes()
    assert_same_tensors(read_weights(large), torch.load(large, weights_only=True))


def directories(path):
    """The entries of a zip file's directory, and what is before them."""
    content = path.read_bytes()
    count, _, start = struct.unpack("<HII", content[-12:-2])
    first = [match.start() for match in re.finditer(b"PK\x01\x02", content)]
    assert (len(first), first[0]) == (count, start)
    ends = [*first[1:], len(content) - 22]
    parts = [content[at:end] for at, end in zip(first, ends, strict=True)]
    return content[:start], parts


def test_a_zip_file_with_two_directories_is_read_in_one_way(tmp_path):
    """Python takes the one that is nearer to the end, torch the one that the end names."""
    path = tmp_path / "two.pt"
    torch.save({"weight": torch.ones(2)}, path)
    with zipfile.ZipFile(path) as source:
        records = {name: source.read(name) for name in source.namelist()}
    (key,) = (name for name in records if name.endswith("/data/0"))
    with zipfile.ZipFile(path, "w") as target:
        for name, content in records.items():
            target.writestr(name, content)
        with pytest.warns(UserWarning, match="Duplicate name"):
            target.writestr(key, bytes(2**26), zipfile.ZIP_DEFLATED)
    before, entries = directories(path)
    (small,) = (i for i, entry in enumerate(entries[:-1]) if key.encode() in entry)
    content, ends = before, []
    for shown in ([e for i, e in enumerate(entries) if i != small], entries[:-1]):
        table, start = b"".join(shown), len(content)
        numbers = (44, 45, 45, 0, 0, len(shown), len(shown), len(table), start)
        ends.append(start + len(table))
        content += table + b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", *numbers)
    content += b"PK\x06\x07" + struct.pack("<IQI", 0, ends[0], 1)
    most = (0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path.write_bytes(content + b"PK\x05\x06" + struct.pack("<HHHHIIH", *most))
    assert torch.equal(read_weights(path)["weight"], torch.ones(2))
    with pytest.raises(RuntimeError, match=r"record size \(67108864 bytes\)"):
        torch.load(path, weights_only=True)


def with_entry(path, place, value):
    """A file of weights with another byte in the entry of its tensor in the directory."""
    torch.save({"weight": torch.full((3,), -0.1)}, path)
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02", 0, content.rindex(b"/data/0"))
    content[entry + place] = value
    path.write_bytes(content)
    return path


def test_an_entry_that_is_marked_as_compressed_is_refused(tmp_path):
    with pytest.raises(UserError, match="not a readable weights file"):
        read_weights(with_entry(tmp_path / "weights.pt", 10, 8))


def test_an_entry_that_is_marked_as_a_folder_is_read(tmp_path):
    """As one flipped bit does. torch passes a folder over and serves what its memory held."""
    found = read_weights(with_entry(tmp_path / "weights.pt", 38, 0x10))
    assert torch.equal(found["weight"], torch.full((3,), -0.1))
