"""A search index whose files somebody else wrote: manifest, shards and FAISS's vectors."""

import json
import struct

import numpy as np
import pytest
import torch
from child import filled
from hostile import damaged, rearranged
from hypothesis import given
from hypothesis import strategies as st

from tvr.models.gare import VideoFeatures
from tvr.search.shards import Contents, File, Shard, Video, write_shard
from tvr.search.store import Origin, Store, commit
from tvr.search.upkeep import Live

VIDEOS, FRAMES, WIDTH = 3, 2, 4
FILES = ("manifest.json", "shard-000000.safetensors", "vectors-000000.faiss")


def made_up(folder):
    """The files of a small index, as our own writers make them, by name."""
    torch.manual_seed(0)
    frames_BFD = torch.randn(VIDEOS, FRAMES, WIDTH)
    mean_BD = torch.nn.functional.normalize(frames_BFD.mean(1), dim=1).numpy()
    features = VideoFeatures(frames_BFD, torch.ones(VIDEOS, FRAMES, dtype=torch.bool))
    videos = [Video(File(f"{i}.mp4", 10 + i, 20 + i), 1.5 * i) for i in range(VIDEOS)]
    shard = folder / FILES[1]
    write_shard(shard, "f00d", Contents(videos, features, mean_BD, [b"one", b"", b"three"]))
    origin = Origin("tiny", "f00d", {"max_frames": FRAMES}, {}, "/videos")
    commit(folder, origin, [Live(Shard(shard), list(range(VIDEOS)))])
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def read(folder, files=None):
    """Open the index, and look at everything that a search looks at."""
    if files is None:
        return
    store = Store.open(filled(folder / "index", files))
    query_AD = np.ones((1, store.vectors.d), np.float32)
    _, rows = store.vectors.search(query_AD, 2)
    assert all(-1 <= row < len(store.videos) for row in rows[0])
    for row in range(len(store.videos)):
        store.features([row]), store.preview(row)
        assert isinstance(store.videos[row].file.path, str)
    assert store.manifest.origin.model


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return made_up(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module", params=FILES)
def reader(request, child):
    return child(f"index: {request.param}", read)


@st.composite
def safetensors(draw, content):
    """A file of tensors whose header says something else, in its own JSON or in ours."""
    (length,) = struct.unpack("<Q", content[:8])
    header, tensors = json.loads(content[8 : 8 + length]), content[8 + length :]
    if draw(st.booleans()):
        videos = json.dumps(draw(rearranged(json.loads(header["__metadata__"]["videos"]))))
        header["__metadata__"]["videos"] = videos
    else:
        header = draw(rearranged(header))
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + tensors


@given(data=st.data())
def test_indexes_are_opened_or_refused(reader, made, data):
    name = reader.name.split(": ")[1]
    content = made[name]
    ways = [damaged(content), damaged(content).map(lambda d: d[: len(content)].ljust(len(content)))]
    if name.endswith(".json"):
        ways += [rearranged(json.loads(content)).map(lambda v: json.dumps(v).encode())] * 2
    elif name.endswith(".safetensors"):
        ways += [safetensors(content)] * 3
    reader.judge({**made, name: data.draw(st.one_of(ways))})
