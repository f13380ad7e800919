"""Notice a video that changes its format midway, from its packets, without decoding.

OpenCV sets up its conversion to RGB for the format that it saw first. Where a later picture has
another size, it repeats an earlier one or reads beyond the picture's memory, and says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2

from tvr.utils.files import utf8_name

LOOKED_AT = 4096  # bytes of a packet: what describes the format comes first
START_CODE = b"\0\0\1"
# The kind of a unit that describes the format, from its first byte
FORMAT_UNIT = {b"h264": lambda byte: byte & 0x1F == 7, b"hevc": lambda byte: byte >> 1 & 0x3F == 33}
# What a key frame starts with; size and colour format come right after it
KEY_FRAME = {b"VP80": (b"\x9d\x01\x2a", 4), b"VP90": (b"\x49\x83\x42", 4)}


def changes_format(path: Path) -> bool:
    """Whether the stream describes its format in several ways; False for unknown codecs."""
    seen: set[bytes] = set()
    with utf8_name(path) as name:
        raw = [cv2.CAP_PROP_FORMAT, -1, cv2.CAP_PROP_N_THREADS, 1]
        capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG, raw)
    codec = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True)
    while len(seen) < 2 and (codec in FORMAT_UNIT or codec in KEY_FRAME) and capture.grab():
        _, packet = capture.retrieve()
        # a damaged packet is None also where OpenCV says that there is one
        if packet is not None:
            seen.update(_formats(codec, packet.ravel()[:LOOKED_AT].tobytes()))
    capture.release()
    return len(seen) > 1


def _formats(codec: bytes, packet: bytes) -> Iterator[bytes]:
    if codec in KEY_FRAME:
        start, length = KEY_FRAME[codec]
        # after three bytes of its own in VP8, after one in VP9
        at = packet.find(start, 0, 6)
        if at >= 0:
            yield packet[at + len(start) : at + len(start) + length]
        return
    for unit in packet.split(START_CODE)[1:]:
        if unit and FORMAT_UNIT[codec](unit[0]):
            # the next unit's start code may have a zero more
            yield unit.rstrip(b"\0")
