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
  count, then to keep.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np

from tvr.dataloaders.containers import Container, inspect
from tvr.utils.errors import UserError
from tvr.utils.files import utf8_name

DECODERS = ("decord", "opencv")
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

# The frames to use of a video, from how many it has and how many a second
Choice = Callable[[int, float], np.ndarray]


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
    indices = np.arange(first, last + 1, stride, dtype=np.int64)
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
    """Frames of `path` as frames_FHWC, uint8 RGB, 1 <= F <= max_frames, chosen by `frame_indices`.

    `start` and `end` are seconds, `framerate` frames per second. Both decoders use one thread and
    give the same frames (see the top of this file for the exceptions). Raises UserError, naming
    the file and the reason, for a file that is missing, empty, cut off, damaged, without video,
    without a frame rate or without a frame in the segment, and for decord where it is not
    installed.
    """
    assert decoder in DECODERS, decoder
    container = _inspected(path)
    choose = partial(_chosen, path, framerate, max_frames, start, end)
    if decoder == "decord":
        frames_FHWC = _read_decord(path, choose)
        if frames_FHWC is not None:
            return frames_FHWC
    return _read_opencv(path, container, choose)


def _inspected(path: Path) -> Container:
    if not path.is_file():
        raise _broken(path, "is not there", "Check --video_path")
    try:
        container = inspect(path)
        size = path.stat().st_size
    except OSError as error:
        raise _broken(
            path, f"cannot be read ({error.strerror})", "Check its permissions"
        ) from error
    if size == 0:
        raise _broken(path, "is empty (0 bytes)")
    if container.missing_bytes:
        raise _broken(
            path, f"is cut off: {size:,} bytes, and {container.missing_bytes:,} more are announced"
        )
    return container


def _broken(path: Path, what: str, advice: str = "Download or encode it again") -> UserError:
    return UserError(f"{path}: the video file {what}. {advice}.")


def _chosen(
    path: Path,
    framerate: float,
    max_frames: int,
    start: float | None,
    end: float | None,
    n_frames: int,
    fps: float,
) -> np.ndarray:
    indices = frame_indices(n_frames, fps, framerate, max_frames, start, end)
    if len(indices) == 0:
        raise _broken(
            path,
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


def _read_decord(path: Path, choose: Choice) -> np.ndarray | None:
    """frames_FHWC, or None if decord does not play the file in full."""
    decord = _decord()
    errors = (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError)
    try:
        with utf8_name(path) as name:
            reader = decord.VideoReader(name, num_threads=1, fault_tol=NO_REPEATED_FRAMES)
        n_frames, fps = len(reader), reader.get_avg_fps()
    except errors:
        return None
    if not 0 < fps < np.inf:
        return None
    indices = choose(n_frames, fps)
    wanted = set(indices.tolist())
    kept = {}
    try:
        for i in range(n_frames):
            frame = reader.next()
            if i in wanted:
                kept[i] = frame.asnumpy()
    except (*errors, StopIteration):
        return None
    return np.stack([kept[i] for i in indices.tolist()])


def opencv_capture(path: Path) -> cv2.VideoCapture:
    """OpenCV's reader of the file, on one thread; `isOpened` tells whether there is a video."""
    with utf8_name(path) as name:
        return cv2.VideoCapture(name, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])


def _opened(path: Path) -> cv2.VideoCapture:
    capture = opencv_capture(path)
    if not capture.isOpened():
        raise _broken(path, "holds no video that can be decoded")
    return capture


def _read_opencv(path: Path, container: Container, choose: Choice) -> np.ndarray:
    capture = _opened(path)
    fps = capture.get(cv2.CAP_PROP_FPS)
    n_frames = 0
    while capture.grab():
        n_frames += 1
    capture.release()
    if n_frames == 0:
        raise _broken(path, "has no frame that can be decoded")
    if not 0 < fps < np.inf:
        raise _broken(path, f"states {fps:g} frames per second", "Encode it again")
    stated_s = container.video_seconds
    if stated_s is not None and n_frames / fps < PLAYED_SHARE * stated_s - PLAYED_SLACK_S:
        raise _broken(
            path, f"is damaged: decoding stops after {n_frames / fps:.1f} of {stated_s:.1f} seconds"
        )
    indices = choose(n_frames, fps)
    frames = _keep(path, set(indices.tolist()), container.bt709)
    return np.stack([frames[i] for i in indices.tolist()])


def _keep(path: Path, wanted: set[int], bt709: bool) -> dict[int, np.ndarray]:
    capture = _opened(path)
    to_bt709 = np.linalg.inv(BT709_RGB_TO_YCC) @ BT601_RGB_TO_YCC
    kept: dict[int, np.ndarray] = {}
    for i in range(max(wanted) + 1):
        ok = capture.grab()
        if i not in wanted:
            continue
        ok, frame_HWC = capture.retrieve() if ok else (False, None)
        if not ok:
            raise _broken(path, f"gave frame {i} once and not again")
        frame_HWC = cv2.cvtColor(frame_HWC, cv2.COLOR_BGR2RGB)
        kept[i] = cv2.transform(frame_HWC, to_bt709) if bt709 else frame_HWC
    capture.release()
    if len({frame_HWC.shape for frame_HWC in kept.values()}) > 1:
        raise _broken(path, "changes its frame size midway", "Encode it again")
    return kept
