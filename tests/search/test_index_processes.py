"""Indexing by real processes: two at once, and killed at any moment."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
from programs import ENVIRONMENT, ROOT, run_program
from small_index import clip, folder_of_clips, opened, paths, same, update, write_checkpoint

from tvr.search.store import Store
from tvr.utils.errors import UserError

WORKER = str(ROOT / "tests/search/index_worker.py")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("model") / "model.pt")


@pytest.fixture(scope="module")
def model(checkpoint):
    return opened(checkpoint)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return folder_of_clips(tmp_path_factory.mktemp("clips"))


@pytest.fixture
def videos(clips, tmp_path):
    """The clips again, to be changed."""
    return shutil.copytree(clips, tmp_path / "videos")


@pytest.fixture
def index(tmp_path):
    return tmp_path / "index"


def test_only_one_process_at_a_time(videos, index, model):
    holder = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import sys; from pathlib import Path; from tvr.search.lock import locked\n"
            "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()",
            str(index),
        ],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="another process is indexing"):
            update(videos, index, model)
    finally:
        holder.kill()
        holder.communicate()
    assert update(videos, index, model).gallery == 7


def start(videos, index, checkpoint):
    command = [sys.executable, WORKER, str(videos), str(index), str(checkpoint)]
    return subprocess.Popen(command, cwd=ROOT, env={**ENVIRONMENT, "PYTHONPATH": str(ROOT)})


def test_killed_at_any_moment_it_goes_on_where_it_was(videos, clips, checkpoint, tmp_path):
    """The index of before is served meanwhile; in the end every bit is as without the kills."""
    index, straight = tmp_path / "killed", tmp_path / "straight"
    later = [path for path in sorted(videos.rglob("*.m*")) if path.is_file()][2:]
    for path in later:
        path.rename(tmp_path / path.name)
    assert start(videos, index, checkpoint).wait() == 0
    shutil.copytree(index, straight)
    before = paths(index)
    for path in later:
        (tmp_path / path.name).rename(path)
    for i in range(5):
        clip(videos / "more" / f"{i}.mp4", seconds=9 + i)
    assert start(videos, straight, checkpoint).wait() == 0
    chance, whole, written = random.Random(0), paths(straight), []
    for shards in (2, 3, 4):
        process = start(videos, index, checkpoint)
        while len(list(index.glob("shard-*"))) < shards and process.poll() is None:
            time.sleep(0.001)
        time.sleep(chance.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        written.append(len(list(index.glob("shard-*"))))
        assert paths(index) == before or (written[-1] == 6 and paths(index) == whole)
    assert written[0] < 6, "the first kill came too late to interrupt anything"
    assert start(videos, index, checkpoint).wait() == 0
    assert same(index, straight)
    assert Store.open(index).videos == Store.open(straight).videos
    shards = [sorted(path.name for path in f.glob("shard-*")) for f in (index, straight)]
    assert shards[0] == shards[1]
    assert len(shards[0]) == 6
    names = {path.name.split("-")[0].split(".")[0] for path in index.iterdir()}
    assert names == {"shard", "vectors", "manifest", "unreadable", "tvr-search"}


def test_a_decoding_process_that_dies(videos, checkpoint, index):
    for i in range(20):
        shutil.copy(videos / "5.mp4", videos / f"copy{i}.mp4")
    command = (sys.executable, "-m", "tvr.search", "index", "--videos", videos, "--index", index)
    process = subprocess.Popen(
        [str(part) for part in (*command, "--model", checkpoint, "--workers", 1)],
        cwd=ROOT,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
    )
    children = f"/proc/{process.pid}/task/{process.pid}/children"
    child = ""
    while not child and process.poll() is None:
        with open(children) as file:
            child = file.read().strip()
    os.kill(int(child), signal.SIGKILL)
    errors = process.communicate()[1].decode()
    assert process.returncode == 2
    assert "a process that decodes videos died" in errors
    assert "Traceback" not in errors
    done = run_program(*command, "--model", checkpoint, "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert len(paths(index)) == 27
