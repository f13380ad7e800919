"""What a video file's container says about itself, read without decoding.

Both decoders play a file that was cut off or damaged as far as it goes, without a word. The
container's own sizes and durations tell such a file from a short one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

ISO_STARTS = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp")
ISO_CARRIERS = (b"moov", b"mdat", b"moof")
EBML_ID = b"\x1a\x45\xdf\xa3"
SEGMENT_ID = b"\x18\x53\x80\x67"
# FFmpeg follows these to other files; a tag of music may stand before them
REFERRING = (b"#EXTM3U", b"ffconcat", b"ID3")
BT709_MATRIX = 1
UNKNOWN_DURATIONS = (2**32 - 1, 2**64 - 1)


@dataclass(frozen=True)
class Container:
    """`missing_bytes`: how many announced bytes the file lacks; `video_seconds`: how long the
    video track is to be shown (None where not said); `bt709`: whether its colours are tagged
    with the BT.709 matrix; `referring`: whether it names other files instead of holding pictures.
    """

    missing_bytes: int = 0
    video_seconds: float | None = None
    bt709: bool = False
    referring: bool = False


def inspect(path: Path) -> Container:
    """Read the headers of an MP4-like, AVI or Matroska file; of others nothing is known.

    Raises OSError if the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(64)
        if head[4:8] in ISO_STARTS:
            return _inspect_iso(file, size)
    if head[:4] == b"RIFF" and len(head) >= 8:
        return Container(missing_bytes=max(0, 8 + struct.unpack("<I", head[4:8])[0] - size))
    if head[:4] == EBML_ID:
        return Container(missing_bytes=max(0, _matroska_end(head) - size))
    return Container(referring=head.startswith(REFERRING))


def _inspect_iso(file: BinaryIO, size: int) -> Container:
    offset, missing, seconds, bt709 = 0, 0, None, False
    while offset + 8 <= size:
        file.seek(offset)
        kind, start, end = _box_at(file.read(16), offset, size)
        if kind in ISO_CARRIERS:
            missing = max(missing, end - size)
        if kind == b"moov" and end <= size:
            file.seek(offset + start)
            movie = file.read(end - offset - start)
            seconds, bt709 = _video_track(movie)
        offset = end
    return Container(missing, seconds, bt709)


def _box_at(head: bytes, offset: int, size: int) -> tuple[bytes, int, int]:
    """(type, length of the header, offset of the end) of the box that starts at `offset`."""
    length, kind = struct.unpack(">I4s", head[:8])
    start = 8
    if length == 1 and len(head) >= 16:
        length, start = struct.unpack(">Q", head[8:16])[0], 16
    # 0 means up to the end of the file; anything else below the header's length is garbage
    return kind, start, offset + length if length >= start else size


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, content) of each box in `data`."""
    offset = 0
    while offset + 8 <= len(data):
        kind, start, end = _box_at(data[offset : offset + 16], offset, len(data))
        yield kind, data[offset + start : end]
        offset = end


def _video_track(movie: bytes) -> tuple[float | None, bool]:
    """Shown seconds and BT.709 tag of the first video track of a `moov` box."""
    timescale = 0
    for kind, content in _boxes(movie):
        if kind == b"mvhd":
            timescale, _ = _timed(content)
        elif kind == b"trak":
            track = dict(_boxes(content))
            media = dict(_boxes(track.get(b"mdia", b"")))
            if media.get(b"hdlr", b"")[8:12] == b"vide":
                shown = _track_units(track.get(b"tkhd", b"")), timescale
                stored_scale, stored = _timed(media.get(b"mdhd", b""))
                # shown counts a gap before the first frame, stored what is cut away from the track
                pairs = (shown, (stored, stored_scale))
                known = [units / scale for units, scale in pairs if units and scale]
                return min(known, default=None), _is_bt709(content)
    return None, False


def _timed(header: bytes) -> tuple[int, int]:
    """Units per second and duration in them of an `mvhd` or `mdhd` box; 0 where unknown."""
    long = header[:1] == b"\x01"
    if len(header) < (32 if long else 20):
        return 0, 0
    timescale, units = struct.unpack_from(">IQ" if long else ">II", header, 20 if long else 12)
    return timescale, 0 if units in UNKNOWN_DURATIONS else units


def _track_units(header: bytes) -> int:
    """Duration of a `tkhd` box in the movie's units; 0 if unknown."""
    long = header[:1] == b"\x01"
    if len(header) < (36 if long else 24):
        return 0
    units = struct.unpack_from(">Q" if long else ">I", header, 28 if long else 20)[0]
    return 0 if units in UNKNOWN_DURATIONS else units


def _is_bt709(track: bytes) -> bool:
    at = track.find(b"colrnclx")
    # after the two four-letter codes: primaries, transfer, matrix, 16 bits each
    return at >= 0 and track[at + 12 : at + 14] == struct.pack(">H", BT709_MATRIX)


def _matroska_end(head: bytes) -> int:
    """Where the segment that starts within `head` ends; 0 if that is unknown."""
    at = head.find(SEGMENT_ID)
    if at < 0 or at + 5 > len(head):
        return 0
    first = head[at + 4]
    width = 9 - first.bit_length()
    coded = head[at + 4 : at + 4 + width]
    if not first or len(coded) < width:
        return 0
    bits = 7 * width
    value = int.from_bytes(coded, "big") & ((1 << bits) - 1)
    # all ones: the writer could not go back to fill it in
    return 0 if value == (1 << bits) - 1 else at + 4 + width + value
