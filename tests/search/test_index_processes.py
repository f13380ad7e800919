"""Indexing by real processes: two at once, and killed at any moment."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from clips import make_clip
from programs import ENVIRONMENT, ROOT, importing
from small_index import clip, paths, same, update

from tvr.search.store import Store
from tvr.utils.errors import UserError

WORKER = str(ROOT / "tests/search/index_worker.py")


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
    return subprocess.Popen(command, cwd=ROOT, env=importing(ROOT))


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
    assert names == {"shard", "vectors", "manifest", "unreadable", "tvr"}


@pytest.fixture
def many(videos):
    """So many, which take so long to decode, that there is time to stop their indexing."""
    one = make_clip(videos / "copy000.mp4", 45, size=(240, 320))
    for i in range(1, 100):
        shutil.copy(one, videos / f"copy{i:03d}.mp4")
    return videos


@contextmanager
def indexing(videos, index, checkpoint):
    """The command's process, and the one that decodes once it has come to copy030.mp4 or later.

    They are a process group of their own, as a terminal makes them.
    """
    command = (sys.executable, "-m", "tvr.search", "index", "--videos", videos, "--index", index)
    flags = ("--model", checkpoint, "--workers", 1, "--batch_size", 2)
    process = subprocess.Popen(
        [str(part) for part in (*command, *flags)],
        cwd=ROOT,
        env=ENVIRONMENT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    child = ""
    while process.poll() is None and not (child and max(opened_by(child)) >= "copy030.mp4"):
        child = children.read_text().strip()
    assert process.poll() is None, process.communicate()
    try:
        yield process, int(child)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def opened_by(process):
    """The names of the clips that a process has open, and one that comes before all."""
    names = [""]
    with suppress(FileNotFoundError):  # it may end
        for link in Path(f"/proc/{process}/fd").iterdir():
            with suppress(FileNotFoundError):  # it may close what it had open
                names.append(link.readlink().name)
    return [name for name in names if name.endswith(".mp4") or not name]


@pytest.mark.parametrize(("send", "stop"), [(os.killpg, signal.SIGINT), (os.kill, signal.SIGTERM)])
def test_a_stopped_indexing_keeps_what_it_has(many, checkpoint, model, index, send, stop):
    with indexing(many, index, checkpoint) as (process, _):
        send(process.pid, stop)
        errors = process.communicate()[1]
    assert (process.returncode, errors) == (130, "stopped\n")
    assert update(many, index, model, per_shard=256).encoded <= 107 - 30
    assert len(paths(index)) == 107


def test_a_decoding_process_that_dies(many, checkpoint, model, index):
    with indexing(many, index, checkpoint) as (process, child):
        os.kill(child, signal.SIGKILL)
        errors = process.communicate()[1]
    assert process.returncode == 2, errors
    assert "a process that decodes videos died" in errors
    assert re.search(r"among copy\d{3}\.mp4 to copy\d{3}\.mp4, by path", errors)
    assert "Traceback" not in errors
    assert update(many, index, model, per_shard=256).encoded <= 107 - 30
    assert len(paths(index)) == 107
