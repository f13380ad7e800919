"""Annotation files of every benchmark, as an attacker or a broken download may leave them."""

import json

import pytest
from child import filled
from hostile import damaged, damaged_json
from hypothesis import given
from hypothesis import strategies as st
from make_shapes import Plan, annotations
from shapes_formats import FORMATS, read_shapes
from shapes_words import draw_clips, least_train

from tvr.dataloaders.benchmarks import load_split, protocols
from tvr.dataloaders.check import main as doctor

DATATYPES = ("msrvtt", *FORMATS)
TRAIN, TEST = 6, 2


def made_up(folder):
    """Of every benchmark the annotation files, as our own writers make them, and the videos."""
    train, test = draw_clips(least_train(), TEST, 0)
    shapes = folder / "shapes" / "anns"
    shapes.mkdir(parents=True)
    plan = Plan(TRAIN, TEST, 2, 3.0, 0)
    for name, text in annotations(plan, train[:TRAIN], test).items():
        (shapes / name).write_text(text)
    found = {"msrvtt": (contents(shapes), [f"video{i}.mp4" for i in range(TRAIN + TEST)])}
    for datatype, (rename, write) in FORMATS.items():
        splits = read_shapes(shapes.parent, rename)
        anns = folder / datatype
        anns.mkdir()
        write(anns, splits)
        videos = [f"{video.name}.mp4" for split in splits.values() for video in split]
        found[datatype] = contents(anns), videos
    return found


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def read(folder, datatype=None, files=None, names=(), split="test"):
    """Load one split of these files, and let the data doctor look at all of them."""
    if datatype is None:
        return
    anns, videos, few = filled(folder / "anns", files), folder / datatype, folder / "few" / datatype
    if not videos.exists():
        videos.mkdir()
        few.mkdir(parents=True)
        for path in (*(videos / name for name in names), few / names[0]):
            path.touch()
    # of one video only: it opens each, which takes longer than to read the annotations
    paths = ("--anno_path", str(anns), "--video_path", str(few), "--csv", str(folder / "csv"))
    assert doctor(["--datatype", datatype, "--workers", "1", *paths]) in (0, 1)
    protocol = protocols(datatype)[0]
    found = load_split(datatype, protocol, split, anns, videos, True, True)
    assert all(clip.path.parent == videos for clip in found.clips)
    assert all(clip.start is None or 0 <= clip.start <= clip.end for clip in found.clips)
    assert all(caption.text.encode().strip() for caption in found.captions)
    assert found.summary()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return made_up(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module", params=DATATYPES)
def reader(request, child):
    return child(f"annotations: {request.param}", read)


def test_whole_annotations_are_read(reader, made):
    datatype = reader.name.split(": ")[1]
    for split in ("train", "test"):
        assert reader.judge(datatype, *made[datatype], split) == "accepted"


@given(data=st.data())
def test_annotations_are_read_or_refused(reader, made, data):
    datatype = reader.name.split(": ")[1]
    files, names = made[datatype]
    name = data.draw(st.sampled_from(sorted(files)))
    content = files[name]
    if name.endswith(".json"):
        hostile = data.draw(damaged_json(json.loads(content)))
    else:
        hostile = data.draw(damaged(content))
    split = data.draw(st.sampled_from(("train", "test")))
    reader.judge(datatype, {**files, name: hostile}, names, split)
