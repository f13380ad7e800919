"""The made-up set in the benchmarks' formats: the readers get past the quirks of the real files."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import shapes_formats

from tvr.dataloaders.benchmarks import DATATYPES, load_split, protocols

TRAIN, TEST = 9, 4
# Patterns that the files contain, as the real ones do
QUIRKS = {
    "msvd": {"raw-captions.pkl": ["unlisted_0_3"]},
    "lsmdc": {
        "LSMDC16_annos_training.csv": [r'^"0000_SHAPES', r'\t"caption 0 ', r"^0001_.*\n0001_"]
    },
    "didemo": {
        "test_list.txt": [r"_shapes\.$", r"_shapes\.mov$"],
        "test_data.json": [r' ", "video"'],
    },
    "activity": {
        "val_ids.json": ['"v_shapes', '"v_unannotated'],
        "val_1.json": ['"v_shapes', '"shapes', '" caption'],
    },
    "vatex": {"ref_captions.json": ["unlisted", r'caption 0 of 0 "']},
}


@dataclass
class Made:
    anns: Path
    videos: Path


@pytest.fixture(params=shapes_formats.FORMATS)
def datatype(request):
    return request.param


@pytest.fixture
def made(datatype, tmp_path):
    """One benchmark's files, from a shapes set whose videos are empty files."""
    anns, videos = tmp_path / "shapes/anns", tmp_path / "shapes/videos"
    anns.mkdir(parents=True)
    videos.mkdir()
    names = [f"video{n}" for n in range(TRAIN + TEST)]
    for name in names:
        (videos / f"{name}.mp4").touch()
    said = [(name, f"caption {k} of {name[5:]}") for name in names for k in range(3)]
    sentences = [{"video_id": name, "caption": caption} for name, caption in said]
    (anns / "MSRVTT_data.json").write_text(json.dumps({"sentences": sentences}))
    (anns / "MSRVTT_train.9k.csv").write_text("\n".join(["video_id", *names[:TRAIN]]))
    (anns / "MSRVTT_JSFUSION_test.csv").write_text("\n".join(["video_id", *names[TRAIN:]]))
    output = tmp_path / datatype
    arguments = ["--shapes", anns.parent, "--videos", videos, "--output", output]
    assert shapes_formats.main([*map(str, arguments), "--datatype", datatype]) == 0
    return Made(output / "anns", output / "videos")


def test_the_files_have_the_quirks_of_the_real_ones(made, datatype):
    for name, patterns in QUIRKS[datatype].items():
        text = (made.anns / name).read_bytes().decode("latin-1")
        for pattern in patterns:
            assert re.search(pattern, text, re.MULTILINE), f"{name}: {pattern}"


def test_file_names_of_activitynet_have_a_prefix_or_not(made, datatype):
    prefixes = {path.name.startswith("v_") for path in made.videos.iterdir()}
    assert prefixes == ({True, False} if datatype == "activity" else {False})


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_the_reader_finds_every_video_and_the_captions_as_they_were(made, datatype, split):
    protocol = protocols(datatype)[0]
    if split == "val" and protocol not in DATATYPES[datatype].VALIDATED_PROTOCOLS:
        pytest.skip("no validation split")
    found = load_split(datatype, protocol, split, made.anns, made.videos, True)
    kept = TRAIN if datatype == "activity" else TRAIN - shapes_formats.VALIDATION
    videos = {"train": range(kept), "val": range(kept, TRAIN), "test": range(TRAIN, TRAIN + TEST)}
    expected = {f"caption {k} of {n}" for n in videos[split] for k in range(3)}
    if datatype in ("didemo", "activity"):
        expected = {f"caption 0 of {n} caption 1 of {n}" for n in videos[split]}
    elif datatype == "lsmdc" and split != "train":
        expected = {f"caption 0 of {n}" for n in videos[split]}
    assert {caption.text for caption in found.captions} == expected
    assert len(found.captions) == len(expected)
    sources = {int(clip.path.resolve().stem.removeprefix("video")) for clip in found.clips}
    assert sources == set(videos[split])
