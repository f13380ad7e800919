"""Decoding in a process of its own: real processes that hang, crash and run out of memory."""

import fcntl
import os
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from caches import SETTINGS, lines
from clips import H264, ffmpeg, make_clip
from programs import ROOT, ends

from tvr.dataloaders.decoding import DecoderProcess
from tvr.dataloaders.frames import read_with
from tvr.dataloaders.reading import DECODERS, DecoderLost, NotPlayed, Request, UnreadableVideo
from tvr.dataloaders.records import Clip
from tvr.utils.errors import UserError

both = pytest.mark.parametrize("decoder", DECODERS)
SHORT = 0.3


@pytest.fixture
def process():
    process = DecoderProcess(60.0)
    yield process
    process.close()


@pytest.fixture
def request_of(clip):
    return Request(clip, 1.0, 12)


def started(process, request):
    """The process's number, once it has read a clip."""
    process.read(request, "opencv")
    return process.pid


def while_it_reads(process, request, act):
    """What reading the clip comes to, if `act` is called once the process has been asked for it."""
    os.kill(process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    pipe = process._running.process.stdin
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(process.read, request, "opencv")
        while struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4))) == (0,):
            time.sleep(0.01)
        act()
        return reading.result()


@both
def test_frames_are_those_of_decoding_here(process, clip, tmp_path, decoder):
    strange = tmp_path / os.fsdecode(b"caf\xe9\n.mp4")
    shutil.copy(clip, strange)
    for request in (Request(clip, 1.0, 12), Request(strange, 3.0, 100, 2.0, 5.0)):
        expected = read_with(request, decoder)
        assert np.array_equal(process.read(request, decoder), expected)
    assert len(expected) == 10


def test_large_frames_do_not_stay_in_memory(process, tmp_path):
    small, large = tmp_path / "s.mp4", tmp_path / "l.mp4"
    for path, size in ((small, "64x48"), (large, "3840x2160")):
        ffmpeg("-f", "lavfi", "-i", f"testsrc2=size={size}:rate=1:duration=3", *H264, path)
    for path in (small, large, small, large):
        request = Request(path, 1.0, 12)
        assert np.array_equal(process.read(request, "opencv"), read_with(request, "opencv"))
        assert os.fstat(process._running._file).st_size <= 2**26


def test_errors_are_those_of_decoding_here(process, tmp_path):
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    with pytest.raises(NotPlayed):
        process.read(Request(text, 1.0, 12), "decord")
    pid = process.pid
    for path, reason in ((text, "holds no video"), (tmp_path / "none.mp4", "is not there")):
        with pytest.raises(UnreadableVideo, match=f"^{path}: the video file {reason}"):
            process.read(Request(path, 1.0, 12), "opencv")
    # a broken file is no reason to start again
    assert process.pid == pid


def test_a_decoder_that_hangs_is_replaced(request_of):
    process = DecoderProcess(SHORT)
    hanging = started(process, request_of)
    os.kill(hanging, signal.SIGSTOP)
    with pytest.raises(DecoderLost, match=r"takes more than 0\.3 seconds to decode with decord"):
        process.read(request_of, "decord")
    assert ends(hanging)
    expected = read_with(request_of, "decord")
    process.timeout = 60.0
    assert np.array_equal(process.read(request_of, "decord"), expected)
    assert process.pid != hanging
    process.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_decoder_that_crashes_is_replaced(process, request_of, number):
    crashing = started(process, request_of)

    def crash():
        os.kill(crashing, number)
        # SIGKILL does not wait for it, and the process may be gone by now
        if number != signal.SIGKILL:
            os.kill(crashing, signal.SIGCONT)

    with pytest.raises(DecoderLost, match=rf"ends the process .* with opencv \({number.name}\)"):
        while_it_reads(process, request_of, crash)
    assert len(process.read(request_of, "opencv")) == 10
    assert process.pid != crashing


def test_a_death_between_two_clips_is_no_clips_fault(process, request_of):
    dead = started(process, request_of)
    os.kill(dead, signal.SIGKILL)
    assert ends(dead)
    assert len(process.read(request_of, "opencv")) == 10


def test_it_imports_what_decoding_needs_only():
    """Every process that reads data has one, and PyTorch would be most of its memory."""
    code = "import sys, tvr.dataloaders.decoder; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT) == b"False\n"


@both
def test_memory_is_limited(request_of, tmp_path, decoder):
    large = tmp_path / "large.mp4"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=7680x4320:rate=1:duration=4", *H264, large)
    process = DecoderProcess(60.0, memory=400 * 2**20)
    with pytest.raises(UnreadableVideo):
        process.read(Request(large, 1.0, 12), decoder)
    assert len(process.read(request_of, decoder)) == 10
    process.close()


def test_an_answer_that_nobody_waited_for_is_not_the_next_clips(process, request_of, tmp_path):
    """Ctrl-C or a signal may end the waiting, and the program go on."""
    first, other = started(process, request_of), make_clip(tmp_path / "other.mp4", 9)

    os.kill(first, signal.SIGSTOP)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        process.read(request_of, "opencv")
    timer.join()
    expected = read_with(Request(other, 1.0, 12), "opencv")
    assert np.array_equal(process.read(Request(other, 1.0, 12), "opencv"), expected)
    assert ends(first)


READING = """
import os, signal, sys
from pathlib import Path
from tvr.dataloaders.decoding import DecoderProcess
from tvr.dataloaders.reading import Request
process = DecoderProcess(1000.0)
request = Request(Path(sys.argv[1]), 1.0, 12)
process.read(request, "opencv")
os.kill(process.pid, signal.SIGSTOP)
print(process.pid, flush=True)
process.read(request, "opencv")
"""


def test_it_ends_with_the_process_that_waits_for_it(clip):
    command = [sys.executable, "-c", READING, str(clip)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as waiting:
        hanging = int(waiting.stdout.readline())
        waiting.kill()
        waiting.wait()
    assert ends(hanging)


def test_it_ends_where_it_is_not_needed_any_more(request_of):
    process = DecoderProcess(60.0)
    pid = started(process, request_of)
    del process
    assert ends(pid)


def test_a_forked_copy_starts_its_own(process, request_of):
    ours = started(process, request_of)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            theirs = started(process, request_of)
            process.close()
            code = 0 if theirs != ours else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert started(process, request_of) == ours


def test_a_process_that_cannot_be_started(request_of, monkeypatch, tmp_path):
    for program, reason in (
        (shutil.which("false"), "exit code 1"),
        (tmp_path, "Permission denied"),
    ):
        monkeypatch.setattr(sys, "executable", str(program))
        with pytest.raises(UserError, match=rf"--decode_timeout: .* \({reason}\)"):
            DecoderProcess(60.0).read(request_of, "opencv")


def test_a_process_that_hangs_before_it_is_ready_is_ended(request_of, monkeypatch, tmp_path):
    process = DecoderProcess(60.0, start=SHORT)
    hanging = tmp_path / "hanging"
    hanging.write_text("#!/bin/sh\nexec sleep 1000\n")
    hanging.chmod(0o700)
    ours = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    before = ours.read_text()
    with monkeypatch.context() as there:
        there.setattr(sys, "executable", str(hanging))
        with pytest.raises(UserError, match=r"cannot be started \(it is not ready after 0\.3 sec"):
            process.read(request_of, "opencv")
    assert ours.read_text() == before
    process.start = 60.0
    assert len(process.read(request_of, "opencv")) == 10
    process.close()


def test_its_words_do_not_get_among_the_answers(process, tmp_path, capfd):
    """decord writes about files that it cannot open."""
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    with pytest.raises(NotPlayed):
        process.read(Request(text, 1.0, 12), "decord")
    assert capfd.readouterr() == ("", "")


def test_what_one_decoder_hangs_over_the_other_reads(clip, tmp_path):
    """And it is not kept: the first may read it the next time, and give other colours."""
    cached = SETTINGS.limited(3.0).cached(tmp_path / "cache")
    told = []
    expected = SETTINGS.read(Clip("v", clip))
    os.kill(started(cached.process, Request(clip, 1.0, 12)), signal.SIGSTOP)
    assert torch.equal(cached.read(Clip("v", clip), told.append), expected)
    (incident,) = told
    assert (incident.path, incident.read_by, incident.lost) == (clip, "opencv", 1)
    assert "takes more than 3 seconds to decode with decord" in incident.problem
    assert lines(tmp_path / "cache") == []
    assert torch.equal(cached.read(Clip("v", clip)), expected)
    assert len(lines(tmp_path / "cache")) == 1
