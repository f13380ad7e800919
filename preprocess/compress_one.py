"""Compress one video with ffmpeg, and check the result by decoding it."""

import re
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
from compress_plan import Job, Settings
from ffmpeg_tools import part_path, publish

_LOG_PREFIX = re.compile(r"^(\[[^\]]* @ 0x[0-9a-f]+\] )+")


class CompressError(Exception):
    """Why one video could not be compressed, in one line."""


class Stopped(Exception):
    """The whole run is being stopped."""


@dataclass(frozen=True)
class Result:
    """What became of one source: `status` is done, skipped or failed; sizes are in bytes."""

    path: str
    status: str
    reason: str
    source_bytes: int
    output_bytes: int


@dataclass(frozen=True)
class Header:
    """What a file says of its video: sizes in shown pixels, `aspect` is shown width / height."""

    width: int
    height: int
    aspect: float
    fps: float
    frames: int

    @property
    def seconds(self) -> float | None:
        """Length in seconds, or None where the file does not tell it."""
        return self.frames / self.fps if self.frames > 0 and self.fps > 0 else None


class Children:
    """The ffmpeg processes now running, so that a stop can end all of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._stopped = False

    def run(self, command: list[str], timeout: float) -> tuple[int, str, str]:
        """Run a command for at most `timeout` seconds; return its exit code, stdout, stderr.

        Raises CompressError past the limit, Stopped once `stop` was called.
        """
        with self._lock:
            if self._stopped:
                raise Stopped
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C reaches this script alone, which ends them
            )
            self._running.add(child)
        try:
            out, err = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            raise CompressError(f"ffmpeg was stopped after --timeout {timeout:g} s") from None
        finally:
            with self._lock:
                self._running.discard(child)
        if self._stopped:
            raise Stopped
        return child.returncode, out, err

    def stop(self) -> None:
        """End every running process, and start no other."""
        with self._lock:
            self._stopped = True
            for child in self._running:
                child.kill()


def _open(path: Path) -> cv2.VideoCapture:
    return cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])


def read_header(capture: cv2.VideoCapture) -> Header:
    """Read what an opened file says of its video."""
    width = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))
    height = int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    across, down = capture.get(cv2.CAP_PROP_SAR_NUM), capture.get(cv2.CAP_PROP_SAR_DEN)
    pixel = across / down if across > 0 and down > 0 else 1.0
    if int(capture.get(cv2.CAP_PROP_ORIENTATION_META)) % 180:
        pixel = 1 / pixel  # width and height are those after the turn, the pixel's are not
    aspect = pixel * width / height if height else 0.0
    fps, frames = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    return Header(width, height, aspect, fps, int(frames))


def check_decodes(path: Path, settings: Settings) -> Header:
    """Decode all of an output; return its header with the count of frames that came.

    Raises CompressError unless it has frames, all of them decode, and size and fps are right.
    """
    capture = _open(path)
    try:
        header = read_header(capture)
        count = 0
        while capture.grab():
            count += 1
    finally:
        capture.release()
    if count == 0:
        raise CompressError("the result has no frame that decodes")
    if count != header.frames:
        raise CompressError(f"only {count} of the result's {header.frames} frames decode")
    if min(header.width, header.height) != settings.short_side:
        raise CompressError(f"the result is {header.width}x{header.height}, short side wrong")
    if abs(header.fps - settings.fps) > 0.01 * settings.fps:
        raise CompressError(f"the result has {header.fps:g} fps, not {settings.fps:g}")
    return header


def reach(ffmpeg: str, source: Path, timeout: float, children: Children) -> float:
    """Return how many seconds of packets a source really holds, over video and audio."""
    longest = 0.0
    for streams in ("0:V?", "0:a?"):
        command = [ffmpeg, "-nostdin", "-v", "quiet", "-nostats", "-progress", "pipe:1"]
        command += ["-i", str(source), "-map", streams, "-c", "copy", "-f", "null", "-"]
        _, out, _ = children.run(command, timeout)
        for micros in re.findall(r"^out_time_us=(\d+)$", out, re.MULTILINE):
            longest = max(longest, int(micros) / 1e6)
    return longest


def check_against_source(
    made: Header, job: Job, ffmpeg: str, timeout: float, children: Children
) -> None:
    """Raise CompressError where the result's aspect or length is not its source's.

    A source cut off in the middle still tells its full length. A track that is shorter than
    the file, or one with a varying frame rate, may differ from the told length in all honesty:
    there the file's packets must reach as far as it says.
    """
    capture = _open(job.source)
    told = read_header(capture) if capture.isOpened() else None
    capture.release()
    if told is None:
        return
    if told.aspect > 0:
        side = min(made.width, made.height)
        wanted = side * max(told.aspect, 1.0), side * max(1 / told.aspect, 1.0)
        if abs(made.width - wanted[0]) > 2 or abs(made.height - wanted[1]) > 2:
            raise CompressError(
                f"the result is {made.width}x{made.height}, but the source's aspect asks for "
                f"{wanted[0]:.0f}x{wanted[1]:.0f}"
            )
    if told.seconds is None or made.seconds is None:
        return
    slack = 1.0 + 1 / made.fps + 0.02 * told.seconds
    if abs(made.seconds - told.seconds) <= slack:
        return
    held = reach(ffmpeg, job.source, timeout, children)
    if held < max(made.seconds, told.seconds) - slack:
        raise CompressError(
            f"the source says it lasts {told.seconds:.1f} s, but {made.seconds:.1f} s came out "
            f"and its data ends at {held:.1f} s: cut off or damaged"
        )


def one_line(stderr: str) -> str:
    """Return ffmpeg's first and last complaint, in one line."""
    lines = [_LOG_PREFIX.sub("", line).strip() for line in stderr.splitlines()]
    lines = [line for line in lines if line]
    if not lines:
        return "ffmpeg gave no reason"
    return lines[0] if lines[0] == lines[-1] else f"{lines[0]}; {lines[-1]}"


def encode_command(ffmpeg: str, source: Path, part: Path, settings: Settings) -> list[str]:
    """Return the ffmpeg command: video only, square pixels, the short side and fps asked for."""
    side = settings.short_side
    filters = (
        # From 0 on, whatever the source starts at; `pass` keeps a clip shorter than one frame.
        f"setpts=PTS-STARTPTS,fps={settings.fps!r}:eof_action=pass,"
        f"scale=w='if(gte(dar,1),2*round({side}*dar/2),{side})'"
        f":h='if(gte(dar,1),{side},2*round({side}/dar/2))':flags=bicubic,setsar=1"
    )
    read = ["-nostdin", "-hide_banner", "-v", "error", "-y"]
    read += ["-threads", "1", "-filter_threads", "1", "-i", str(source)]
    pick = ["-map", "0:V:0", "-an", "-sn", "-dn", "-map_metadata", "-1", "-map_chapters", "-1"]
    write = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-pix_fmt", "yuv420p"]
    write += ["-threads", "1", "-movflags", "+faststart", "-f", "mp4", str(part)]
    return [ffmpeg, *read, *pick, "-vf", filters, *write]


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def compress_one(
    job: Job, settings: Settings, ffmpeg: str, timeout: float, children: Children
) -> Result:
    """Make one output, or say why not. `timeout` is in seconds, for each ffmpeg process.

    The output gets its name only once it was checked. Raises Stopped when the run is stopped.
    """
    part = part_path(job.output)
    source_bytes = 0
    try:
        if not (_is_utf8(job.source) and _is_utf8(job.output)):
            raise CompressError("its path is not valid UTF-8, which OpenCV cannot open; rename it")
        if not job.source.is_file():
            raise CompressError("not a file that can be read (a broken link, or a device)")
        before = job.source.stat()
        source_bytes = before.st_size
        job.output.parent.mkdir(parents=True, exist_ok=True)
        code, _, stderr = children.run(encode_command(ffmpeg, job.source, part, settings), timeout)
        if code != 0:
            raise CompressError(one_line(stderr))
        made = check_decodes(part, settings)
        check_against_source(made, job, ffmpeg, timeout, children)
        if job.source.stat().st_mtime_ns != before.st_mtime_ns:
            raise CompressError("the source changed while it was read; run again")
        publish(part, job.output)
        return Result(job.relative, "done", "", source_bytes, job.output.stat().st_size)
    except (CompressError, OSError, cv2.error) as error:
        reason = " ".join(str(error).split())
        return Result(job.relative, "failed", reason, source_bytes, 0)
    finally:
        with suppress(OSError):  # gone already, or never there: nothing to clear away
            part.unlink()
