import os
import shutil
import sys

import numpy as np
import pytest
from clips import H264, ffmpeg, make_clip, shown_index

from tvr.dataloaders.examine import read_header
from tvr.dataloaders.frames import DECODERS, frame_indices, read_frames
from tvr.utils.errors import UserError

both = pytest.mark.parametrize("decoder", DECODERS)


def shown(path, framerate=1.0, max_frames=100, start=None, end=None, decoder="opencv"):
    frames_FHWC = read_frames(path, framerate, max_frames, start, end, decoder)
    return [shown_index(frame) for frame in frames_FHWC]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((10, 3.0, 1.0, 12), [0, 3, 6, 9]),
        ((9, 3.0, 1.0, 2), [0, 6]),
        # 10 candidates 0, 3, .., 27; linspace(0, 9, 4) = 0, 3, 6, 9
        ((30, 3.0, 1.0, 4), [0, 9, 18, 27]),
        # linspace(0, 9, 6) = 0, 1.8, 3.6, 5.4, 7.2, 9, truncated
        ((10, 1.0, 1.0, 6), [0, 1, 3, 5, 7, 9]),
        ((6, 2.5, 1.0, 12), [0, 3]),
        ((4, 1.0, 3.0, 12), [0, 1, 2, 3]),
        ((1, 25.0, 1.0, 12), [0]),
        ((30, 3.0, 1.0, 1), [0]),
        ((30, 3.0, 1.0, 12, 2.0, 5.0), [6, 9, 12, 15]),
        ((30, 3.0, 1.0, 12, 2.1, 5.0), [7, 10, 13]),
        ((30, 3.0, 1.0, 12, 8.0, 99.0), [24, 27]),
        ((30, 3.0, 1.0, 12, None, 0.9), [0]),
        ((30, 3.0, 1.0, 12, 10.0, 12.0), []),
    ],
)
def test_frame_indices(arguments, expected):
    indices = frame_indices(*arguments)
    assert indices.dtype == np.int64
    assert indices.tolist() == expected


@both
def test_the_frames_asked_for(clip, decoder):
    assert shown(clip, decoder=decoder) == list(range(0, 30, 3))
    assert shown(clip, max_frames=4, decoder=decoder) == [0, 9, 18, 27]
    assert shown(clip, start=2.0, end=5.0, decoder=decoder) == [6, 9, 12, 15]


CODECS = {
    "portrait.mp4": (400, 226, "3", H264),
    "w298.mp4": (224, 298, "3", H264),
    "ntsc.mp4": (240, 320, "30000/1001", H264),
    "halves.mp4": (240, 320, "2.5", H264),
    "full.mp4": (240, 320, "3", (*H264[:-1], "yuvj420p")),
    "odd.mp4": (225, 299, "3", (*H264[:-1], "yuv444p")),
    "opengop.mp4": (
        *(240, 320, "25"),
        (*H264, "-g", "8", "-bf", "3", "-x264-params", "open-gop=1"),
    ),
    "vfr.mp4": (
        *(240, 320, "10"),
        (*H264, "-vf", "select=not(between(mod(n\\,10)\\,3\\,6))", "-fps_mode", "vfr"),
    ),
    "mpeg4.avi": (240, 320, "25", ("-c:v", "mpeg4", "-bf", "2")),
    "h264.mkv": (240, 320, "25", H264),
    "vp9.webm": (240, 320, "3", ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8")),
    "mpeg2.mpg": (240, 320, "25", ("-c:v", "mpeg2video", "-bf", "2")),
}


@pytest.mark.parametrize("name", CODECS)
def test_decoders_agree_to_the_bit(tmp_path, name):
    height, width, fps, encode = CODECS[name]
    path = make_clip(tmp_path / name, 40, fps, (height, width), encode)
    for framerate, max_frames in ((1.0, 12), (1000.0, 1000)):
        results = [read_frames(path, framerate, max_frames, decoder=d) for d in DECODERS]
        assert np.array_equal(*results)
    assert results[0].shape[1:] == (height, width, 3)
    indices = [shown_index(frame) for frame in results[0]]
    dropped = {i for i in range(40) if name == "vfr.mp4" and 3 <= i % 10 <= 6}
    assert indices == [i for i in range(40) if i not in dropped]


@pytest.mark.parametrize("degrees", [90, 180])
def test_decoders_agree_on_rotation(tmp_path, clip, degrees):
    ffmpeg("-display_rotation", str(degrees), "-i", clip, "-c", "copy", tmp_path / "r.mp4")
    results = [read_frames(tmp_path / "r.mp4", 1.0, 12, decoder=d) for d in DECODERS]
    assert np.array_equal(*results)
    # ffmpeg's option turns against the clock, as np.rot90 does
    upright = np.rot90(results[0], -degrees // 90, axes=(1, 2))
    assert [shown_index(frame) for frame in upright] == list(range(0, 30, 3))


@both
def test_packets_that_show_nothing_are_not_frames(tmp_path, decoder):
    whole = make_clip(tmp_path / "whole.mp4", 200, "25", encode=(*H264, "-g", "250"))
    ffmpeg("-ss", "4", "-i", whole, "-c", "copy", tmp_path / "cut.mp4")
    assert shown(tmp_path / "cut.mp4", decoder=decoder) == [100, 125, 150, 175]
    assert shown(tmp_path / "cut.mp4", 25.0, 3, decoder=decoder) == [100, 149, 199]


@both
def test_gap_before_the_first_frame(tmp_path, clip, decoder):
    ffmpeg("-i", clip, "-c", "copy", "-output_ts_offset", "5", tmp_path / "late.mp4")
    assert shown(tmp_path / "late.mp4", decoder=decoder) == list(range(0, 30, 3))


def test_bt709_colours_agree_up_to_clipping(tmp_path, clip):
    tags = [a for c in ("space", "_primaries", "_trc") for a in (f"-color{c}", "bt709")]
    ffmpeg("-i", clip, "-vf", "scale=out_color_matrix=bt709", *H264, *tags, tmp_path / "hd.mp4")
    decord, opencv = (
        read_frames(tmp_path / "hd.mp4", 1.0, 12, decoder=d).astype(int) for d in DECODERS
    )
    assert np.abs(decord - opencv).mean() < 1
    # where BT.601 clipped nothing, only rounding is left
    inside = ((opencv > 40) & (opencv < 215)).all(-1) & ((decord > 40) & (decord < 215)).all(-1)
    assert inside.mean() > 0.1
    assert np.abs(decord - opencv)[inside].max() <= 2
    # right, too: as near to the untagged original as encoding once more allows
    original = read_frames(clip, 1.0, 12).astype(int)
    assert np.abs(decord - original).mean() < 4
    assert np.abs(opencv - original).mean() < 4


def broken_file(kind, clip, path):
    fast = path.with_name("fast.mp4")
    ffmpeg("-i", clip, "-c", "copy", "-movflags", "+faststart", fast)
    whole = clip.read_bytes() if kind == "cut off" else fast.read_bytes()
    if kind == "empty":
        path.touch()
    elif kind == "html":
        path.write_text("<html><body>404 Not Found</body></html>" * 40)
    elif kind in ("cut off", "cut off, index first"):
        path.write_bytes(whole[: len(whole) * 2 // 3])
    elif kind == "damaged":
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes(20_000) + whole[middle + 20_000 :])
    elif kind == "audio only":
        ffmpeg("-f", "lavfi", "-i", "sine=duration=1", path)
    else:
        assert kind == "missing"


@both
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "is not there"),
        ("empty", "is empty"),
        ("html", "holds no video"),
        ("cut off", "is cut off"),
        ("cut off, index first", "is cut off"),
        ("damaged", "is damaged: decoding stops after"),
        ("audio only", "holds no video"),
    ],
)
def test_broken_file(tmp_path, clip, kind, reason, decoder):
    path = tmp_path / "video7.mp4"
    broken_file(kind, clip, path)
    with pytest.raises(UserError, match=f"video7.mp4: the video file {reason}"):
        read_frames(path, 1.0, 12, decoder=decoder)


@both
@pytest.mark.parametrize("name", ["x.avi", "x.mkv"])
def test_cut_off_in_other_containers(tmp_path, name, decoder):
    path = make_clip(tmp_path / name, 30, encode=("-c:v", "mpeg4"))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(UserError, match="is cut off"):
        read_frames(path, 1.0, 12, decoder=decoder)


@both
def test_segment_outside_the_video(clip, decoder):
    with pytest.raises(UserError, match="no frame between 31 and 40 seconds: it has 30 frames"):
        read_frames(clip, 1.0, 12, 31.0, 40.0, decoder)


def test_decord_not_installed(clip, monkeypatch):
    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(UserError, match="use --video_decoder opencv"):
        read_frames(clip, 1.0, 12, decoder="decord")
    assert len(read_frames(clip, 1.0, 12, decoder="opencv")) == 10


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("name", [b"caf\xe9.mp4", "caf\u00e9.mp4".encode(), b"new\nline.mp4"])
def test_names_that_need_not_be_utf8(tmp_path, clip, decoder, name):
    path = tmp_path / os.fsdecode(name)
    shutil.copy(clip, path)
    expected = read_frames(clip, 1.0, 12, decoder=decoder)
    assert np.array_equal(read_frames(path, 1.0, 12, decoder=decoder), expected)
    assert read_header(path).seconds == read_header(clip).seconds


def test_file_without_extension(tmp_path, clip):
    shutil.copy(clip, tmp_path / "video7")
    assert shown(tmp_path / "video7", decoder="decord") == shown(clip)
