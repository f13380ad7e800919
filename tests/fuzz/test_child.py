"""What counts as a crash: were it not noticed, the tests of hostile files could not fail."""

import ctypes
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import cv2
import pytest
from child import Child

from tvr.utils.errors import UserError

SECRET = "../../outside/secret.mp4"
PLAYLIST = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{SECRET}\n#EXT-X-ENDLIST\n"


def read(folder, kind=None):
    """Does what no reader may."""
    if kind == "refuses":
        raise UserError("why")
    if kind == "says nothing":
        raise UserError("")
    if kind == "raises":
        raise KeyError("x")
    if kind == "opens":
        (folder / "../../outside/secret").read_bytes()
    if kind == "looks for":
        with suppress(FileNotFoundError):
            Path("/nowhere/outside/secret").read_bytes()
    if kind == "opens by a library":
        libc = ctypes.CDLL(None)
        libc.close(libc.open(os.fsencode(folder / SECRET), os.O_RDONLY))
    if kind == "opens by a playlist":
        (folder / "x.mp4").write_text(PLAYLIST)
        cv2.VideoCapture(str(folder / "x.mp4"), cv2.CAP_FFMPEG)
    if kind == "writes":
        (folder / "../x").write_bytes(b"")
    if kind == "starts":
        subprocess.run(["true"], check=True)
    if kind == "takes memory":
        bytearray(400 * 2**20)
    if kind == "takes more memory":
        bytearray(3 * 2**30)
    if kind == "dies":
        os.kill(os.getpid(), signal.SIGSEGV)
    if kind == "hangs":
        time.sleep(1000)


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    child = Child("crimes", read, tmp_path_factory.mktemp("child"), limit=10)
    yield child.judge
    child.close()


def test_what_is_well(judge):
    assert judge("reads") == "accepted"
    assert judge("refuses") == "refused"


@pytest.mark.parametrize(
    ("kind", "noticed"),
    {
        "says nothing": "an error without a text",
        "raises": "KeyError: 'x'",
        "opens": r"touched \['secret'\] outside",
        "looks for": "open /nowhere/outside/secret",
        "opens by a library": r"touched \['secret.mp4'\] outside",
        "opens by a playlist": r"touched \['secret.mp4'\] outside",
        "writes": "open .*/inside/x",
        "starts": "subprocess.Popen",
        "takes memory": "took (399|4..) MiB",
        "takes more memory": "MemoryError",
        "dies": "the process ended with -11",
        "hangs": "still at work after 10 s",
    }.items(),
)
def test_crimes_are_noticed_and_the_next_input_is_judged_for_itself(judge, kind, noticed):
    with pytest.raises(AssertionError, match=noticed):
        judge(kind)
    assert judge("reads") == "accepted"


def test_where_a_process_may_end_that_is_counted_and_nothing_else_is_excused(tmp_path):
    child = Child("crimes", read, tmp_path, limit=10, may_end=True)
    assert [child.judge(kind) for kind in ("dies", "reads")] == ["refused", "accepted"]
    assert child.tally["ended"] == 1
    with pytest.raises(AssertionError, match="still at work"):
        child.judge("hangs")
    child.close()
