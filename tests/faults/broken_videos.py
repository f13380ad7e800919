"""Videos that are broken, odd or hostile, one of each kind, and what comes of each.

    PYTHONPATH=.:tests/dataloaders python tests/faults/broken_videos.py

prints the table of docs/reliability.md. The files are of the clip that `whole` is: 30 pictures
that show their number, 3 a second, 160 x 120 pixels.
"""

from __future__ import annotations

import os
import random
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clips import H264, ffmpeg, make_clip

from tvr.dataloaders.decoding import DecoderProcess
from tvr.dataloaders.frames import read_with
from tvr.dataloaders.reading import DECODERS, Decoded, Request, UnreadableVideo, read_with_either

FRAMES, FPS, SIZE = 30, "3", (120, 160)
EVERY_SECOND = tuple(range(0, FRAMES, 3))
NOBODY = 65534
SECONDS = 60.0


@dataclass(frozen=True)
class Kind:
    """How to make a file at a path from the whole clip, its name, and the pictures that it shows.

    `shows` is what one frame a second has to be; None where the pictures carry no number or the
    file is not to be read. They are turned by `turn` times 90 degrees, against the clock.
    """

    make: Callable[[Path, Path], None]
    shows: tuple[int, ...] | None = None
    name: str = "x.mp4"
    turn: int = 0


def encoded(
    *how: str | Path, size: tuple[int, int] = SIZE, fps: str = FPS, frames: int = FRAMES
) -> Callable[[Path, Path], None]:
    """The same pictures in another way."""

    def make(clip: Path, path: Path) -> None:
        make_clip(path, frames, fps, size, tuple(map(str, how)) or H264)

    return make


def copied(*how: str, before: tuple[str, ...] = ()) -> Callable[[Path, Path], None]:
    """The whole clip's stream, packed in another way."""

    def make(clip: Path, path: Path) -> None:
        ffmpeg(*before, "-i", clip, "-c", "copy", *how, path)

    return make


def written(change: Callable[[bytes], bytes]) -> Callable[[Path, Path], None]:
    """The whole clip's bytes, changed."""

    def make(clip: Path, path: Path) -> None:
        path.write_bytes(change(clip.read_bytes()))

    return make


def index_first(change: Callable[[bytes], bytes]) -> Callable[[Path, Path], None]:
    """As `written`, of a file that has its index before the pictures."""

    def make(clip: Path, path: Path) -> None:
        fast = path.with_name("fast.mp4")
        ffmpeg("-i", clip, "-c", "copy", "-movflags", "+faststart", fast)
        path.write_bytes(change(fast.read_bytes()))
        fast.unlink()

    return make


def box(content: bytes, kind: bytes) -> slice:
    """Where the content of the first box of this kind is."""
    at = content.index(kind)
    (length,) = struct.unpack(">I", content[at - 4 : at])
    return slice(at + 4, at - 4 + length)


def patched(*changes: tuple[bytes, int, bytes]) -> Callable[[bytes], bytes]:
    """Writes bytes into boxes: kind, offset in its content, bytes."""

    def change(content: bytes) -> bytes:
        new = bytearray(content)
        for kind, offset, value in changes:
            start = box(content, kind).start + offset
            new[start : start + len(value)] = value
        return bytes(new)

    return change


def without_moov(content: bytes) -> bytes:
    at = box(content, b"moov")
    return content[: at.start - 8] + content[at.stop :]


def random_body(content: bytes) -> bytes:
    at = box(content, b"mdat")
    return content[: at.start] + noise(at.stop - at.start) + content[at.stop :]


def damaged(with_what: Callable[[int], bytes]) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        at = box(content, b"mdat")
        first, length = (at.start + at.stop) // 2, (at.stop - at.start) // 5
        return content[:first] + with_what(length) + content[first + length :]

    return change


def noise(n: int) -> bytes:
    return random.Random(n).randbytes(n)


def link_to(target: str) -> Callable[[Path, Path], None]:
    return lambda clip, path: path.symlink_to(target)


def without_permission(clip: Path, path: Path) -> None:
    path.write_bytes(clip.read_bytes())
    path.chmod(0)


def huge_and_sparse(clip: Path, path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**36)


def playlist(clip: Path, path: Path) -> None:
    path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{clip}\n#EXT-X-ENDLIST\n")


def script(clip: Path, path: Path) -> None:
    path.write_text(f"ffconcat version 1.0\nfile '{clip}'\n")


def two_streams(clip: Path, path: Path) -> None:
    second = path.with_name("second.mp4")
    ffmpeg("-i", clip, "-vf", "negate", *H264, second)
    ffmpeg("-i", clip, "-i", second, "-map", "0:v", "-map", "1:v", "-c", "copy", path)
    second.unlink()


def two_sizes(*sizes: str) -> Callable[[Path, Path], None]:
    def make(clip: Path, path: Path) -> None:
        parts = []
        for size in sizes:
            part = path.with_name("part.ts")
            ffmpeg("-i", clip, "-s", size, *H264, "-f", "mpegts", part)
            parts.append(part.read_bytes())
            part.unlink()
        path.write_bytes(b"".join(parts))

    return make


def enormous(clip: Path, path: Path) -> None:
    """A few kilobytes that ask for a gigabyte a frame."""
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=16x16:rate=3:duration=2", "-f", "gif", path)
    content = bytearray(path.read_bytes())
    content[6:10] = struct.pack("<HH", 16000, 16000)
    path.write_bytes(content)


JUMP = "setpts=if(gte(N\\,15)\\,PTS+100/TB\\,PTS)"
KINDS = {
    "whole": Kind(written(bytes), EVERY_SECOND),
    "zero length": Kind(lambda clip, path: path.touch()),
    "cut off after 100 bytes": Kind(written(lambda content: content[:100])),
    "cut off at a half": Kind(written(lambda content: content[: len(content) // 2])),
    "one byte short": Kind(written(lambda content: content[:-1])),
    "index first, cut off at two thirds": Kind(index_first(lambda c: c[: len(c) * 2 // 3])),
    "index first, one byte short": Kind(index_first(lambda content: content[:-1])),
    "index missing": Kind(written(without_moov)),
    "random bytes": Kind(lambda clip, path: path.write_bytes(noise(50_000))),
    "right headers, random pictures": Kind(written(random_body)),
    "zeros in the middle": Kind(written(damaged(bytes))),
    "random bytes in the middle": Kind(written(damaged(noise))),
    "web page": Kind(lambda clip, path: path.write_text("<html>404 Not Found</html>" * 40)),
    "archive": Kind(lambda clip, path: path.write_bytes(b"PK\3\4" + noise(5_000))),
    "playlist that names another file": Kind(playlist),
    "script that names another file": Kind(script),
    "68 GB of nothing": Kind(huge_and_sparse),
    "link to itself": Kind(link_to("x.mp4")),
    "link to nothing": Kind(link_to("nothing.mp4")),
    "link to a device that never ends": Kind(link_to("/dev/zero")),
    "no permission": Kind(without_permission),
    "folder": Kind(lambda clip, path: path.mkdir()),
    "pipe": Kind(lambda clip, path: os.mkfifo(path)),
    "sound only": Kind(lambda clip, path: ffmpeg("-f", "lavfi", "-i", "sine=duration=1", path)),
    "0 units a second": Kind(written(patched((b"mdhd", 12, bytes(4))))),
    "2^32 - 2 units of duration": Kind(
        written(patched((b"mvhd", 16, b"\xff\xff\xff\xfe"), (b"mdhd", 16, b"\xff\xff\xff\xfe"))),
        EVERY_SECOND,
    ),
    "size of 8K in the header alone": Kind(
        written(patched((b"avc1", 24, struct.pack(">HH", 7680, 4320)))), EVERY_SECOND
    ),
    "16,000 x 16,000 pixels in a small file": Kind(enormous, name="x.gif"),
    "1 x 1 pixel": Kind(encoded("-c:v", "libx264", "-pix_fmt", "yuv444p", size=(1, 1))),
    "odd size": Kind(encoded(*H264[:-1], "yuv444p", size=(121, 161)), EVERY_SECOND),
    "one frame": Kind(encoded(*H264, "-frames:v", "1"), (0,)),
    "grey": Kind(encoded(*H264[:-1], "gray"), EVERY_SECOND),
    "10 bits": Kind(encoded(*H264[:-1], "yuv420p10le"), EVERY_SECOND),
    "rotated by 90 degrees": Kind(copied(before=("-display_rotation", "90")), EVERY_SECOND, turn=1),
    "variable frame rate": Kind(
        encoded(*H264, "-vf", "select=not(between(mod(n\\,10)\\,3\\,6))", "-fps_mode", "vfr"),
        (0, 2, 8, 10, 12, 18, 20, 22, 28),
    ),
    "100 seconds without a frame": Kind(
        encoded(*H264, "-vf", JUMP, "-fps_mode", "vfr"), tuple(range(FRAMES))
    ),
    "time stamps before 0": Kind(
        encoded(*H264, "-bf", "3", "-use_editlist", "0", "-avoid_negative_ts", "disabled"),
        EVERY_SECOND,
    ),
    "edit list": Kind(copied(before=("-ss", "4")), tuple(range(12, FRAMES, 3))),
    "two video streams": Kind(two_streams, EVERY_SECOND),
    "two sizes": Kind(two_sizes("160x120", "320x240"), 2 * EVERY_SECOND, "x.ts"),
    "two sizes, the smaller last": Kind(two_sizes("320x240", "160x120"), 2 * EVERY_SECOND, "x.ts"),
    "wrong extension": Kind(written(bytes), EVERY_SECOND, "x.avi"),
    "WebM called .mp4": Kind(encoded("-c:v", "libvpx", "-b:v", "1M", "-f", "webm"), EVERY_SECOND),
    "GIF called .mp4": Kind(encoded("-f", "gif"), EVERY_SECOND),
    "MPEG program stream called .mp4": Kind(
        encoded("-c:v", "mpeg2video", "-q:v", "3", "-f", "mpeg", fps="25"), (0, 25)
    ),
}


def make_all(folder: Path) -> dict[str, Path]:
    """Every kind, each in a folder of its own."""
    clip = make_clip(folder / "whole.mp4", FRAMES, FPS, SIZE)
    paths = {}
    for number, (name, kind) in enumerate(KINDS.items()):
        paths[name] = folder / str(number) / kind.name
        paths[name].parent.mkdir()
        kind.make(clip, paths[name])
    return paths


@contextmanager
def not_root() -> Iterator[None]:
    """Without the rights of root, whom permissions do not bind."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def read(kind: str, path: Path, decoder: str, process: DecoderProcess) -> Decoded:
    """The frames at one a second, with everything that guards a run."""
    request = Request(path, 1.0, FRAMES)
    if kind == "no permission":
        # the process was started by this user
        with not_root():
            return read_with_either(request, decoder, read_with)
    return read_with_either(request, decoder, process.read)


def outcome(kind: str, path: Path, decoder: str, process: DecoderProcess) -> str:
    """What comes of the file, in the words of the table."""
    try:
        decoded = read(kind, path, decoder, process)
    except UnreadableVideo as error:
        return "error: " + error.what.partition(":")[0].partition(" (")[0]
    frames, height, width, _ = decoded.frames_FHWC.shape
    by = "" if decoded.decoder == decoder else f", by {decoded.decoder}"
    return f"{frames} of {width} x {height}{by}"


def table(folder: Path) -> str:
    """The Markdown of all outcomes."""
    lines = [
        "| kind | `--video_decoder decord` | `--video_decoder opencv` |",
        "| --- | --- | --- |",
    ]
    process = DecoderProcess(SECONDS)
    for kind, path in make_all(folder).items():
        cells = [outcome(kind, path, decoder, process) for decoder in DECODERS]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    process.close()
    return "\n".join(lines)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        print(table(Path(name)))
