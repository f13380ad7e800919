"""A process that reads hostile files under limits, and says what became of each."""

import multiprocessing
import os
import resource
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

from watched import Watched

from tvr.utils.errors import UserError

ADDRESS_SPACE = 2 * 2**30  # beyond what the libraries have when the reading starts
MOST_MEMORY = 300 * 2**20  # that one file may take while it is read
MOST_SECONDS = 120
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
RUNNING = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "os.putenv")
CHANGING = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link")
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    ["torch", "cv2", "faiss", "safetensors", "open_clip", "decord", "hypothesis"]
)


class Child:
    """Calls `read(folder, *input)` in another process for input after input.

    `folder` is the only one that it may write to. A folder `outside`, beside it and one further up,
    has files named secret and secret.mp4, of which none may be opened. With `may_end` an input may
    end the process by a signal, which is counted: the program does the same in one of its own.
    """

    def __init__(self, name, read, base, limit=MOST_SECONDS, may_end=False):
        self.name, self.read, self.limit, self.may_end = name, read, limit, may_end
        self.folder = base / "inside" / "work"
        self.folder.mkdir(parents=True)
        outside = [base / "outside", base / "inside" / "outside"]
        for folder in outside:
            folder.mkdir()
            for name in ("secret", "secret.mp4"):
                (folder / name).write_text("secret")
        self._outside = Watched(outside)
        self.tally, self._first = Counter(), None
        self._start()

    def _start(self):
        self._pipe, theirs = PROCESSES.Pipe()
        self.process = PROCESSES.Process(
            target=serve, args=(theirs, self.read, self.folder), daemon=True
        )
        self.process.start()
        theirs.close()

    def judge(self, *given):
        """Fails unless the input is read or refused as a user's mistake."""
        self._first = self._first or time.monotonic()
        self._pipe.send(given)
        try:
            ended = self._pipe.poll(self.limit)
            outcome = self._pipe.recv() if ended else f"still at work after {self.limit} s"
        except (EOFError, ConnectionError):
            self.process.join()
            ended, outcome = False, f"the process ended with {self.process.exitcode}"
            if self.may_end and self.process.exitcode < 0:
                self.tally["ended"] += 1
                outcome = "refused"
        if not ended:
            self.process.kill()
            self.process.join()
            self._start()
        touched = self._outside.touched()
        if touched:
            outcome = f"{outcome}, and touched {touched} outside"
        self.tally["inputs"] += 1
        self.tally["seconds"] = round(time.monotonic() - self._first)
        self.tally[outcome if outcome in ("accepted", "refused") else "crashed"] += 1
        assert outcome in ("accepted", "refused"), outcome
        return outcome

    def close(self):
        self.process.kill()
        self.process.join()
        self._outside.close()


def filled(folder, files):
    """The folder with these files and no others: contents by name."""
    folder.mkdir(exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def serve(pipe, read, folder):
    """The other process's loop."""
    forbidden: list[str] = []
    sys.stderr = sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    os.dup2(sys.stdout.fileno(), 1)
    os.dup2(sys.stdout.fileno(), 2)
    read(folder)
    sys.addaudithook(lambda event, args: watch(event, args, folder, forbidden))
    while True:
        try:
            given = pipe.recv()
        except EOFError:
            return
        pipe.send(outcome_of(read, folder, given, forbidden))


def outcome_of(read, folder, given, forbidden):
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + ADDRESS_SPACE, hard))
    forbidden.clear()
    try:
        read(folder, *given)
        outcome = "accepted"
    except UserError as error:
        outcome = "refused" if str(error).strip() else "an error without a text"
    except BaseException:
        outcome = traceback.format_exc()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    seen = list(forbidden)
    grown = memory("VmHWM") - before
    if grown > MOST_MEMORY:
        return f"took {grown >> 20:,} MiB ({outcome})"
    return f"{outcome}: {seen}" if seen else outcome


def memory(field):
    """Bytes of a line of /proc/self/status."""
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{field}:")[1].split()[0]) * 1024


def watch(event, args, folder, forbidden):
    """Notes what a reader has no business to do."""
    if event.startswith(RUNNING) or event == "os.environ":
        forbidden.append(f"{event} {args}")
    elif event.startswith(CHANGING) or event == "open":
        name, writes = args[0], event != "open" or bool((args[2] or 0) & WRITING)
        if not isinstance(name, str | bytes):
            return
        path = os.path.realpath(os.fsdecode(name))
        allowed = path.startswith((f"{folder}/", "/dev/null"))
        if (writes and not allowed) or path.endswith(("outside/secret", "outside/secret.mp4")):
            forbidden.append(f"{event} {path}")
