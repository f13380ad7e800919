"""What is asked of a decoder, what can come of it, and who is asked next.

Shapes: F frames, H height, W width, C = 3 channels in the order R, G, B.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tvr.utils.errors import UserError

MODULES = {"decord": "decord", "opencv": "cv2"}
DECODERS = tuple(MODULES)


@dataclass(frozen=True)
class Request:
    """The frames that are wanted of a file: how many a second, at most, between seconds."""

    path: Path
    framerate: float
    max_frames: int
    start: float | None = None
    end: float | None = None


class UnreadableVideo(UserError):
    """A video file that gives no frames: `what` it does or is, and what to do about it.

    `lost` is the number of decoders that were lost over it.
    """

    lost = 0

    def __init__(self, path: Path, what: str, advice: str = "Download or encode it again") -> None:
        # as arguments, so that it can be sent to another process
        super().__init__(path, what, advice)
        self.path, self.what, self.advice = path, what, advice

    def __str__(self) -> str:
        return f"{self.path}: the video file {self.what}. {self.advice}."


class NotPlayed(UnreadableVideo):
    """decord does not play the file in full; it does not say why."""


class DecoderLost(UnreadableVideo):
    """The decoder hung, crashed or ran out of memory over the file; it need not do so again."""

    lost = 1


@dataclass(frozen=True)
class Decoded:
    """frames_FHWC, the decoder that gave them, and why the one asked for did not, if so."""

    frames_FHWC: np.ndarray
    decoder: str
    problem: UnreadableVideo | None = None


def read_with_either(
    request: Request, first: str, read: Callable[[Request, str], np.ndarray]
) -> Decoded:
    """The frames by `read` with the decoder `first`, or else with the other one, if installed.

    Raises:
        UnreadableVideo: neither can read the file.
        UserError: `first` is not installed.
    """
    try:
        return Decoded(read(request, first), first)
    except UnreadableVideo as error:
        problem = error
    (second,) = (decoder for decoder in DECODERS if decoder != first)
    if importlib.util.find_spec(MODULES[second]) is None:
        raise problem
    try:
        return Decoded(read(request, second), second, problem)
    except UnreadableVideo as error:
        raise _of_both(problem, error) from None


def _of_both(first: UnreadableVideo, second: UnreadableVideo) -> UnreadableVideo:
    """The one that says more, or both in one where a decoder was lost."""
    if isinstance(first, NotPlayed):
        return second
    lost = first.lost + second.lost
    if isinstance(second, NotPlayed) or not lost:
        return first
    both = UnreadableVideo(first.path, f"{first.what}, and {second.what}", second.advice)
    both.lost = lost
    return both
