"""Sample the frames of a video file, the same ones with either decoder.

Shapes: F frames, H height, W width, C = 3 channels in the order R, G, B.

decord and OpenCV carry different FFmpeg builds, so what follows was measured, not assumed
(decord 0.6.0, OpenCV 4.12, 43 files: H.264, HEVC, VP9, MPEG-2/4, H.263, WMV2; 8-bit 4:2:0, 4:2:2,
4:4:4, grey, full range; odd sizes, rotation, open GOPs, stream-copied cuts):

* Pixels are equal, bit for bit, except for two kinds of file. Where the colours are tagged
  BT.709, decord honours the tag and OpenCV converts as BT.601 (5 levels off on average);
  `_read_opencv` puts that right in MP4-like files, up to rounding and what was clipped. 10-bit
  video differs by 2 levels on average; compress it to 8 bits first.
* decord counts packets, and repeats the last frame for those that show nothing (a clip cut
  without re-encoding may be half such packets), its jumps miss frames in open GOPs, and it loses
  the first frames of MPEG program streams. So it is made to decode in sequence, to the very
  end, and to refuse such repetition; a file it does not play in full is read with OpenCV.
* OpenCV seeks inexactly and reports the container's count, so it decodes twice in sequence: to
  count, then to keep. Where the size changes midway it gives wrong pictures (`packets.py`); decord
  scales them to the first one's size.
"""

from __future__ import annotations

import importlib
import os
import stat
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np

from tvr.dataloaders.containers import Container, inspect
from tvr.dataloaders.packets import changes_format
from tvr.dataloaders.reading import (
    DECODERS,
    DecoderLost,
    NotPlayed,
    Request,
    UnreadableVideo,
    read_with_either,
)
from tvr.utils.errors import UserError
from tvr.utils.files import utf8_name

CHANGES = "changes its frame size or format midway"
ADVICE = "Check --video_path"
# Beyond these there is a mistake in the file, and frames taken once a second mean nothing
LEAST_FPS, MOST_FPS = 0.01, 1000
# A file of a few bytes may ask for any size
MOST_PIXELS = 8192 * 8192
# decord's share of repeated frames that is tolerated: none, but 0 would switch the check off
NO_REPEATED_FRAMES = 1e-6
# A track may end a little before its stated end; a damaged one stops well before it
PLAYED_SHARE = 0.9
PLAYED_SLACK_S = 1.0
BT601_RGB_TO_YCC = np.array(
    [
        [0.299, 0.587, 0.114],
        [-0.299 / 1.772, -0.587 / 1.772, 0.5],
        [0.5, -0.587 / 1.402, -0.114 / 1.402],
    ]
)
BT709_RGB_TO_YCC = np.array(
    [
        [0.2126, 0.7152, 0.0722],
        [-0.2126 / 1.8556, -0.7152 / 1.8556, 0.5],
        [0.5, -0.7152 / 1.5748, -0.0722 / 1.5748],
    ]
)


def frame_indices(
    n_frames: int,
    fps: float,
    framerate: float,
    max_frames: int,
    start: float | None = None,
    end: float | None = None,
) -> np.ndarray:
    """Which frames to use of a video of `n_frames` at `fps`, int64, at most `max_frames`.

    Every stride-th frame, stride = max(1, fps / framerate rounded half up: 2.5 gives 3, where
    Python's `round` would give 2). If those are more than `max_frames`, that many of them evenly
    from first to last, linspace truncated to integers. Frame i is shown at i / fps seconds; a
    segment keeps the frames with start <= i / fps <= end, and may so leave none.
    """
    assert min(n_frames, fps, framerate, max_frames) > 0
    # the tolerance takes 29.97 fps × 10 s for the frame it means
    first = 0 if start is None else max(0, int(np.ceil(start * fps - 1e-6)))
    last = n_frames - 1 if end is None else min(n_frames - 1, int(np.floor(end * fps + 1e-6)))
    stride = max(1, int(fps / framerate + 0.5))
    indices: np.ndarray = np.arange(first, last + 1, stride, dtype=np.int64)
    if len(indices) > max_frames:
        indices = indices[np.linspace(0, len(indices) - 1, max_frames).astype(np.int64)]
    return indices


def read_frames(
    path: Path,
    framerate: float,
    max_frames: int,
    start: float | None = None,
    end: float | None = None,
    decoder: str = "decord",
) -> np.ndarray:
    """`read_with_either` in this process: its frames_FHWC alone."""
    request = Request(path, framerate, max_frames, start, end)
    return read_with_either(request, decoder, read_with).frames_FHWC


def read_with(request: Request, decoder: str) -> np.ndarray:
    """Frames of a file as frames_FHWC, uint8 RGB, 1 <= F <= max_frames, chosen by `frame_indices`.

    Both decoders use one thread and give the same frames (see the top of this file for the
    exceptions).

    Raises:
        UnreadableVideo: the file is missing, empty, cut off, damaged, without video, without a
            frame rate or without a frame in the segment, or the decoder has no memory for it.
        UserError: decord is not installed.
    """
    assert decoder in DECODERS, decoder
    container = _inspected(request.path)
    try:
        if decoder == "decord":
            return _read_decord(request)
        return _read_opencv(request, container)
    except MemoryError as error:
        raise _out_of_memory(request.path, decoder) from error
    except cv2.error as error:
        if getattr(error, "code", None) == cv2.Error.StsNoMem or "bad_alloc" in str(error):
            raise _out_of_memory(request.path, decoder) from error
        raise UnreadableVideo(
            request.path, f"cannot be decoded with OpenCV ({str(error).strip()})"
        ) from error


def _out_of_memory(path: Path, decoder: str) -> DecoderLost:
    what = f"needs more memory than there is to decode it with {decoder}"
    return DecoderLost(path, what, "Encode it again, smaller")


def _inspected(path: Path) -> Container:
    try:
        # a pipe or a device must not even be opened: that could wait for ever
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableVideo(path, "is no file but a folder, pipe or device", ADVICE)
        container = inspect(path)
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError) as error:
        what = "is a link to what is not there" if os.path.islink(path) else "is not there"
        raise UnreadableVideo(path, what, ADVICE) from error
    except OSError as error:
        raise UnreadableVideo(
            path, f"cannot be read ({error.strerror})", "Check its permissions"
        ) from error
    if size == 0:
        raise UnreadableVideo(path, "is empty (0 bytes)")
    if container.referring:
        raise UnreadableVideo(path, "is a list of other files")
    if container.missing_bytes:
        raise UnreadableVideo(
            path, f"is cut off: {size:,} bytes, and {container.missing_bytes:,} more are announced"
        )
    return container


def _chosen(request: Request, n_frames: int, fps: float) -> np.ndarray:
    start, end = request.start, request.end
    indices = frame_indices(n_frames, fps, request.framerate, request.max_frames, start, end)
    if len(indices) == 0:
        raise UnreadableVideo(
            request.path,
            f"has no frame between {start or 0:g} and {'its end' if end is None else f'{end:g}'} "
            f"seconds: it has {n_frames} frames at {fps:g} per second",
            "Check that the annotations belong to this file",
        )
    return indices


def _decord() -> ModuleType:
    try:
        decord = importlib.import_module("decord")
    except ImportError as error:
        raise UserError(
            f"--video_decoder decord: decord cannot be imported ({error}). It is made for x86-64 "
            "only; use --video_decoder opencv, which gives the same frames."
        ) from error
    # what it would print concerns files that are then read, or reported, with OpenCV
    decord.logging.set_level(decord.logging.QUIET)
    return decord


def _read_decord(request: Request) -> np.ndarray:
    decord, path = _decord(), request.path
    not_played = NotPlayed(path, "is not played in full by decord")
    errors = (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError)
    try:
        with utf8_name(path) as name:
            reader = decord.VideoReader(name, num_threads=1, fault_tol=NO_REPEATED_FRAMES)
        n_frames, fps = len(reader), reader.get_avg_fps()
    except errors as error:
        raise not_played from error
    if n_frames == 0 or not LEAST_FPS <= fps <= MOST_FPS:
        raise not_played
    indices = _chosen(request, n_frames, fps)
    wanted = set(indices.tolist())
    kept = {}
    try:
        for i in range(n_frames):
            frame = reader.next()
            # of a picture narrower than 32 pixels it makes rows with the padding as colours
            if frame.shape[2] != 3:
                raise not_played
            _refuse_too_large(path, *frame.shape[1::-1])
            if i in wanted:
                kept[i] = frame.asnumpy()
    except (*errors, StopIteration) as error:
        raise not_played from error
    return _stacked(path, kept, indices)


def _stacked(path: Path, frame_of: dict[int, np.ndarray], indices: np.ndarray) -> np.ndarray:
    if len({frame_HWC.shape for frame_HWC in frame_of.values()}) > 1:
        raise UnreadableVideo(path, CHANGES, "Encode it again")
    return np.stack([frame_of[i] for i in indices.tolist()])


def opencv_capture(path: Path) -> cv2.VideoCapture:
    """OpenCV's reader of the file, on one thread; `isOpened` tells whether there is a video."""
    with utf8_name(path) as name:
        return cv2.VideoCapture(name, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])


def _opened(path: Path) -> cv2.VideoCapture:
    capture = opencv_capture(path)
    if not capture.isOpened():
        raise UnreadableVideo(path, "holds no video that can be decoded")
    sides = (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    _refuse_too_large(path, *(int(capture.get(side)) for side in sides))
    return capture


def _refuse_too_large(path: Path, width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        what = f"is too large: {width} x {height} pixels, more than 8192 x 8192 in all"
        raise UnreadableVideo(path, what, "Encode it again, smaller")


def _read_opencv(request: Request, container: Container) -> np.ndarray:
    path = request.path
    capture = _opened(path)
    if changes_format(path):
        raise UnreadableVideo(path, CHANGES, "Encode it again")
    fps = capture.get(cv2.CAP_PROP_FPS)
    n_frames = 0
    while capture.grab():
        n_frames += 1
    capture.release()
    if n_frames == 0:
        raise UnreadableVideo(path, "has no frame that can be decoded")
    if not LEAST_FPS <= fps <= MOST_FPS:
        raise UnreadableVideo(path, f"states {fps:g} frames per second", "Encode it again")
    stated_s = container.video_seconds
    if stated_s is not None and n_frames / fps < PLAYED_SHARE * stated_s - PLAYED_SLACK_S:
        raise UnreadableVideo(
            path, f"is damaged: decoding stops after {n_frames / fps:.1f} of {stated_s:.1f} seconds"
        )
    indices = _chosen(request, n_frames, fps)
    return _stacked(path, _keep(path, set(indices.tolist()), container.bt709), indices)


def _keep(path: Path, wanted: set[int], bt709: bool) -> dict[int, np.ndarray]:
    capture = _opened(path)
    to_bt709 = np.linalg.inv(BT709_RGB_TO_YCC) @ BT601_RGB_TO_YCC
    kept: dict[int, np.ndarray] = {}
    for i in range(max(wanted) + 1):
        ok = capture.grab()
        if i not in wanted:
            continue
        ok, frame_HWC = capture.retrieve() if ok else (False, None)
        if not ok or frame_HWC is None:
            raise UnreadableVideo(path, f"gave frame {i} once and not again")
        frame_HWC = cv2.cvtColor(frame_HWC, cv2.COLOR_BGR2RGB)
        kept[i] = cv2.transform(frame_HWC, to_bt709) if bt709 else frame_HWC
    capture.release()
    return kept
