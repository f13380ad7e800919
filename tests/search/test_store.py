"""An index on disk: it is read as it was written, or refused where its files do not fit."""

import json
import shutil

import numpy as np
import pytest
import torch
from small_index import opened, write_checkpoint

from tvr.models.gare import VideoFeatures
from tvr.search.engine import Engine
from tvr.search.indexing import index_features
from tvr.search.shards import Damaged, Shard
from tvr.search.store import Store, read_manifest
from tvr.utils.errors import UserError

WIDTH = 128


def blocks(*sizes, seed=0, width=WIDTH):
    """Features of blocks of videos, with masks of every length from 1."""
    generator = torch.Generator().manual_seed(seed)
    return [
        VideoFeatures(
            torch.randn(size, 4, width, generator=generator),
            torch.arange(4) <= torch.randint(4, (size, 1), generator=generator),
        )
        for size in sizes
    ]


@pytest.fixture(scope="module")
def made(model, tmp_path_factory):
    """An index of three shards."""
    folder = tmp_path_factory.mktemp("made") / "index"
    index_features(folder, model, folder, blocks(5, 7, 1))
    return folder


@pytest.fixture
def index(made, tmp_path):
    return shutil.copytree(made, tmp_path / "index")


def test_features_are_read_again_row_by_row(made):
    store = Store.open(made)
    parts = blocks(5, 7, 1)
    frames_BFD = torch.cat([part.frames_BFD for part in parts])
    mask_BF = torch.cat([part.mask_BF for part in parts])
    for rows in ([12, 0, 5, 4, 5], [3], list(range(13))):
        found = store.features(rows)
        assert torch.equal(found.frames_BFD, frames_BFD[rows])
        assert torch.equal(found.mask_BF, mask_BF[rows])
    assert len({video.file.path for video in store.videos}) == 13
    vectors_ND = store.vectors.reconstruct_n(0, 13)
    np.testing.assert_allclose(np.linalg.norm(vectors_ND, axis=1), 1, atol=1e-6)
    assert store.preview(12) == b""
    for row in (-1, 13):
        with pytest.raises(IndexError):
            store.preview(row)


def test_a_reader_keeps_what_it_opened(index, model):
    store = Store.open(index)
    before = store.features([0, 12]).frames_BFD
    index_features(index, model, index, blocks(2, seed=1))
    assert len(Store.open(index).videos) == 2
    assert torch.equal(store.features([0, 12]).frames_BFD, before)


@pytest.mark.parametrize("kind", ["shard-000001.safetensors", "vectors-*", "manifest.json"])
@pytest.mark.parametrize("share", [0, 0.1, 0.9, 1])
def test_a_file_that_was_cut_off_is_noticed(index, kind, share):
    (path,) = index.glob(kind)
    content = path.read_bytes()
    path.write_bytes(content[: min(int(len(content) * share), len(content) - 1)])
    with pytest.raises(UserError, match=r"[Rr]un the index command again") as caught:
        Store.open(index)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", ["shard-000001.safetensors", "vectors-*"])
def test_a_file_that_is_missing_is_noticed(index, kind):
    (path,) = index.glob(kind)
    path.unlink()
    with pytest.raises(UserError, match=r"[Rr]un the index command again") as caught:
        Store.open(index)
    assert str(path) in str(caught.value)


def test_files_of_another_index_are_noticed(index, model, tmp_path):
    other = opened(write_checkpoint(tmp_path / "other.pt", seed=1))
    for folder, maker in (("same", model), ("other", other)):
        index_features(tmp_path / folder, maker, index, blocks(5, 6, seed=2))
    name = "shard-000001.safetensors"
    shutil.copy(tmp_path / "same" / name, index / name)
    with pytest.raises(UserError, match="the vectors are not those of 12 videos"):
        Store.open(index)
    shutil.copy(tmp_path / "other" / name, index / name)
    with pytest.raises(UserError, match=r"belongs to another index\. Move it out"):
        Store.open(index)


def test_shards_have_to_be_of_one_shape(model, tmp_path):
    frames_BFD = torch.randn(2, 3, WIDTH)
    shorter = VideoFeatures(frames_BFD, torch.ones(2, 3, dtype=torch.bool))
    index_features(tmp_path, model, tmp_path, [*blocks(2), shorter])
    with pytest.raises(UserError, match=r"shard-000001.*\(3, 128\).*shard-000000.*\(4, 128\)"):
        Store.open(tmp_path)


def test_vectors_have_the_width_of_the_model(checkpoint, model, tmp_path):
    index_features(tmp_path, model, tmp_path, blocks(2, width=64))
    with pytest.raises(UserError, match=r"its vectors have 64 numbers, .*'s have 128\. Make anoth"):
        Engine.open(tmp_path, str(checkpoint), "cpu")


def test_an_index_of_another_version_is_refused(index, model):
    path = index / "manifest.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"version": 3}))
    with pytest.raises(UserError, match="version 3, this program reads 2"):
        Store.open(index)
    shard = index / "shard-000001.safetensors"
    shard.write_bytes(shard.read_bytes().replace(b'"version":"2"', b'"version":"3"'))
    path.write_text(json.dumps(content))
    with pytest.raises(
        UserError, match=r"shard-000001.*reads 2\. Make a new index, in another folder\.$"
    ):
        Store.open(index)


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"version": 1}', "null", '{"version": 1, "x": 0}']
)
def test_a_manifest_of_something_else_is_refused(index, content):
    (index / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=r"manifest\.json"):
        Store.open(index)


def test_no_index(tmp_path):
    with pytest.raises(
        UserError, match=r"no finished index there\. Make one: python -m tvr\.search"
    ):
        Store.open(tmp_path / "gone")
    with pytest.raises(UserError, match="no finished index there"):
        Store.open(tmp_path)


def test_the_manifest_says_what_made_the_index(made, model):
    origin = read_manifest(made).origin
    assert (origin.model, origin.fingerprint) == (model.name, model.fingerprint)
    assert origin.folder == str(made)
    assert origin.settings["temp"] == 3.0
    assert origin.settings["max_frames"] == 3
    assert origin.given == {}


@pytest.mark.parametrize("tensor", ["frames_BFD", "mask_BF", "mean_BD", "ends_B"])
def test_a_changed_byte_of_a_shard_is_noticed(index, tensor):
    path = index / "shard-000001.safetensors"
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    content[start + json.loads(content[8:start])[tensor]["data_offsets"][0]] ^= 1
    path.write_bytes(content)
    with pytest.raises(Damaged, match="the file is damaged"):
        Shard(path).check()


@pytest.mark.parametrize("kind", ["vectors-*", "manifest.json"])
def test_a_changed_byte_of_the_other_files_is_noticed(index, kind):
    (path,) = index.glob(kind)
    content = path.read_bytes()
    path.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
    with pytest.raises(UserError, match=r"damaged.*[Rr]un the index command again"):
        Store.open(index)
