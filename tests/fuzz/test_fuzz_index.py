"""A search index whose files somebody else wrote: manifest, shards and FAISS's vectors.

Whoever writes an index writes its checksums as well, so most inputs have the right ones.
"""

import json
import struct
from zlib import crc32

import faiss
import numpy as np
import pytest
import torch
from child import filled
from hostile import damaged, rearranged
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.numpy import load

from tvr.models.gare import VideoFeatures
from tvr.search.shards import Contents, File, Shard, Video, checksum_of_rest, write_shard
from tvr.search.store import Origin, Store, commit
from tvr.search.upkeep import Live

VIDEOS, FRAMES, WIDTH = 3, 2, 4
FILES = ("manifest.json", "shard-000000.safetensors", "vectors-000000.faiss")
MANIFEST, SHARD, VECTORS = FILES
NOT_READ = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)
TENSORS = ("frames_BFD", "mask_BF", "mean_BD", "previews", "ends_B")


def made_up(folder):
    """The files of a small index, as our own writers make them, by name."""
    torch.manual_seed(0)
    frames_BFD = torch.randn(VIDEOS, FRAMES, WIDTH)
    mean_BD = torch.nn.functional.normalize(frames_BFD.mean(1), dim=1).numpy()
    features = VideoFeatures(frames_BFD, torch.ones(VIDEOS, FRAMES, dtype=torch.bool))
    videos = [Video(File(f"{i}.mp4", 10 + i, 20 + i), 1.5 * i) for i in range(VIDEOS)]
    shard = folder / SHARD
    write_shard(shard, "f00d", Contents(videos, features, mean_BD, [b"one", b"", b"three"]))
    origin = Origin("tiny", "f00d", {"max_frames": FRAMES}, {}, "/videos")
    commit(folder, origin, [Live(Shard(shard), list(range(VIDEOS)))])
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def read(folder, files=None):
    """Open the index, and look at everything that a search looks at."""
    if files is None:
        return
    store = Store.open(filled(folder / "index", files))
    count = len(store.videos)
    _, rows = store.vectors.search(np.ones((1, store.vectors.d), np.float32), count)
    assert sorted(rows[0]) == list(range(count))
    for row in range(count):
        frames_BFD = store.features([row]).frames_BFD
        assert frames_BFD.shape[2] == store.vectors.d
        assert isinstance(store.preview(row), bytes)
        assert isinstance(store.videos[row].file.path, str)
    assert store.features(list(range(count))).mask_BF.dtype == torch.bool
    assert store.manifest.origin.model


def parts(content):
    """The header of a safetensors file, and its tensors."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def joined(header, tensors):
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + tensors


def sealed(files):
    """The files with checksums and sizes that fit their content, as far as it can be read."""
    return with_sums_of_manifest(with_sums_of_shard(files))


def with_sums_of_shard(files):
    try:
        header, tensors = parts(files[SHARD])
        found, metadata = load(files[SHARD]), header["__metadata__"]
        frames, mask, mean, previews, ends = (found[name] for name in TENSORS)
        rows = [crc32(m, crc32(f)) for f, m in zip(frames, mask, strict=False)]
        pieces = np.split(previews, ends[:-1])
        metadata["features"] = json.dumps(rows)
        metadata["previews"] = json.dumps([crc32(piece) for piece in pieces])
        metadata["means"] = str(crc32(mean))
        metadata["rest"] = str(checksum_of_rest(metadata, ends))
    except (*NOT_READ, SafetensorError, struct.error):
        return files
    return {**files, SHARD: joined(header, tensors)}


def with_sums_of_manifest(files):
    try:
        content = json.loads(files[MANIFEST])
        sums = {"vectors_bytes": len(files[VECTORS]), "vectors_checksum": crc32(files[VECTORS])}
        # only what differs: a value of another kind is what may be tried
        content |= {name: value for name, value in sums.items() if type(content[name]) is int}
        content.pop("checksum", None)
        content["checksum"] = crc32(json.dumps(content).encode())
    except NOT_READ:
        return files
    return {**files, MANIFEST: json.dumps(content).encode()}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return made_up(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module", params=FILES)
def reader(request, child):
    return child(f"index: {request.param}", read)


@st.composite
def headers(draw, content):
    """A file of tensors whose header says something else, in its own JSON or in ours."""
    header, tensors = parts(content)
    if draw(st.booleans()):
        videos = json.dumps(draw(rearranged(json.loads(header["__metadata__"]["videos"]))))
        header["__metadata__"]["videos"] = videos
    else:
        header = draw(rearranged(header))
    return joined(header, tensors)


@st.composite
def numbers(draw, content):
    """A file of tensors with other bytes among its numbers."""
    header, tensors = parts(content)
    changed = draw(damaged(tensors))
    return joined(header, changed[: len(tensors)].ljust(len(tensors), b"\xff"))


def other_indexes():
    """What else FAISS writes, of as many vectors of the same width, and some of other sizes."""
    rows_ND = np.eye(VIDEOS, WIDTH, dtype=np.float32)
    numbered = faiss.IndexIDMap(faiss.IndexFlatIP(WIDTH))
    numbered.add_with_ids(rows_ND, np.array([0, 7, 2**40]))
    others = [faiss.IndexHNSWFlat(WIDTH, 4, faiss.METRIC_INNER_PRODUCT), faiss.IndexFlatL2(WIDTH)]
    others += [faiss.IndexFlatIP(WIDTH), faiss.IndexScalarQuantizer(WIDTH, 0), faiss.IndexLSH(4, 8)]
    for index in others:
        index.train(rows_ND)
        index.add(rows_ND)
    wide = faiss.IndexFlatIP(VIDEOS)
    wide.add(np.eye(WIDTH, VIDEOS, dtype=np.float32))
    return [faiss.serialize_index(index).tobytes() for index in (numbered, *others, wide)]


def hostile(name, content):
    """Strategies for a file's bytes."""
    ways = [damaged(content), damaged(content).map(lambda d: d[: len(content)].ljust(len(content)))]
    if name == MANIFEST:
        ways += [rearranged(json.loads(content)).map(lambda v: json.dumps(v).encode())] * 2
    elif name == SHARD:
        ways += [headers(content)] * 2 + [numbers(content)]
    else:
        others = other_indexes()
        ways += [st.sampled_from(others), st.sampled_from(others).flatmap(damaged)]
    return st.one_of(ways)


def test_a_sealed_index_is_as_its_writer_leaves_it(made):
    assert sealed(made) == made
    header, tensors = parts(made[SHARD])
    wrong = {**header["__metadata__"], "features": "[1]", "previews": "[]", "means": "", "rest": ""}
    shard = joined({**header, "__metadata__": wrong}, tensors)
    manifest = {**json.loads(made[MANIFEST]), "vectors_bytes": 1, "vectors_checksum": 2}
    unsealed = {**made, SHARD: shard, MANIFEST: json.dumps(manifest).encode()}
    again = sealed(unsealed)
    assert parts(again.pop(SHARD)) == parts(made[SHARD])
    assert again == {MANIFEST: made[MANIFEST], VECTORS: made[VECTORS]}


def test_a_whole_index_is_opened(reader, made):
    assert reader.judge(made) == "accepted"


@given(data=st.data())
def test_indexes_are_opened_or_refused(reader, made, data):
    name = reader.name.split(": ")[1]
    files = {**made, name: data.draw(hostile(name, made[name]))}
    reader.judge(files if data.draw(st.integers(0, 3)) == 0 else sealed(files))
