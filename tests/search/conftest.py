"""Clips and a model to index them with, and a real index for the tests of page and server."""

import logging
import os
import shutil
from threading import Thread

import pytest
from clips import make_clip
from small_index import folder_of_clips, opened, write_checkpoint
from waitress import create_server

from tvr.search.engine import Engine
from tvr.search.indexing import Indexer
from tvr.search.model import open_model
from tvr.search.serve import create_app

# the names that a page has to be careful with; the third is not UTF-8
NAMES = [
    "plain.mp4",
    "<img src=x onerror=alert(1)>.mp4",
    os.fsdecode(b"caf\xe9.mp4"),
    "new\nline \x1b[31m.mp4",
    'deep/er/ünïcode 視頻 "quoted" & %2e%2e.mp4',
    "a-name-as-long-as-any-" + "long-" * 40 + ".mp4",
]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """A tiny model's, for which `clips` and `videos` are indexed."""
    return write_checkpoint(tmp_path_factory.mktemp("model") / "model.pt")


@pytest.fixture(scope="session")
def model(checkpoint):
    return opened(checkpoint)


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """Seven clips that no test changes."""
    return folder_of_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture
def videos(clips, tmp_path):
    """The clips again, to be changed."""
    return shutil.copytree(clips, tmp_path / "videos")


@pytest.fixture
def index(tmp_path):
    """Where an index may be made."""
    return tmp_path / "index"


@pytest.fixture(scope="session")
def served_index(tmp_path_factory):
    """The folder of an index of six clips with names of all kinds."""
    videos, folder = tmp_path_factory.mktemp("videos"), tmp_path_factory.mktemp("index")
    (videos / "deep" / "er").mkdir(parents=True)
    sizes = [(120, 160), (90, 160), (160, 90)]
    for number, name in enumerate(NAMES):
        made = make_clip(videos / f"{number}.mp4", 6 + 3 * number, size=sizes[number % 3])
        made.rename(videos / name)
    log = logging.getLogger("test")
    Indexer(videos, folder, open_model("tiny", {}, "cpu", log, workers=0)).run(log)
    return folder


@pytest.fixture(scope="session")
def engine(served_index):
    """That index, open."""
    return Engine.open(served_index, device="cpu")


@pytest.fixture
def engine_with_damaged_previews(served_index, tmp_path):
    """The same index with its previews overwritten."""
    copy = shutil.copytree(served_index, tmp_path / "index")
    for shard in copy.glob("shard-*"):
        shard.write_bytes(shard.read_bytes().replace(b"RIFF", b"????"))
    return Engine.open(copy, device="cpu")


@pytest.fixture(scope="session")
def app(engine):
    return create_app(engine)


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture(scope="session")
def served(app):
    """Host and port of a real server in a thread, with threads of its own."""
    server = create_server(app, host="127.0.0.1", port=0, threads=8)
    Thread(target=server.run, daemon=True).start()
    yield "127.0.0.1", server.effective_port
    server.close()
