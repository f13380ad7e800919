"""Damaged videos, and files that name others, read with either decoder in a process of its own."""

import importlib
from contextlib import suppress

import pytest
from clips import H264, make_clip
from hostile import damaged
from hypothesis import given
from hypothesis import strategies as st

from tvr.dataloaders.frames import DECODERS, read_frames

VP8 = ("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-threads", "1")
KINDS = {"a.mp4": H264, "b.mkv": H264, "c.avi": ("-c:v", "mpeg4"), "d.webm": VP8}
SECRET = b"../../outside/secret.mp4"
PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n%b\n#EXT-X-ENDLIST\n" % SECRET
LISTS = {
    "e.mp4": PLAYLIST,
    "f.mp4": b"ffconcat version 1.0\nfile '%b'\n" % SECRET,
    "g.mp4": b"ID3\3\0\0\0\0\0\0" + PLAYLIST,
    "h.mp4": b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
    b"<Period><AdaptationSet><Representation><BaseURL>%b</BaseURL></Representation>"
    b"</AdaptationSet></Period></MPD>" % SECRET,
    "i.mp4": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"
    b"a=rtpmap:96 H264/90000\n",
}


def read(folder, name=None, content=b"", decoder="opencv"):
    if name is None:
        # its first import changes PATH, which no video may
        with suppress(ImportError):
            importlib.import_module("decord")
        return
    path = folder / name
    path.write_bytes(content)
    frames_FHWC = read_frames(path, 1.0, 3, decoder=decoder)
    assert 1 <= len(frames_FHWC) <= 3
    assert frames_FHWC.shape[3] == 3


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Small clips of several kinds, and lists of other files, by name."""
    folder = tmp_path_factory.mktemp("made")
    for name, encode in KINDS.items():
        make_clip(folder / name, 4, "2", (48, 64), encode)
    return {path.name: path.read_bytes() for path in folder.iterdir()} | LISTS


@pytest.fixture(scope="module", params=DECODERS)
def reader(request, child):
    # The program decodes in a process of its own, and has an error for its end
    return child(f"video: {request.param}", read, may_end=True)


def test_whole_videos_are_read_and_lists_are_not(reader, made):
    decoder = reader.name.split(": ")[1]
    assert {name for name in made if reader.judge(name, made[name], decoder) == "accepted"} == set(
        KINDS
    )


@given(data=st.data())
def test_videos_are_read_or_refused(reader, made, data):
    name = data.draw(st.sampled_from([*LISTS, *KINDS, *KINDS, *KINDS]))
    reader.judge(name, data.draw(damaged(made[name])), reader.name.split(": ")[1])
