import json
from dataclasses import replace
from pathlib import Path

import pytest
from lists import write_lists

from tvr.dataloaders.msrvtt import read_captions
from tvr.utils.errors import UserError

LIST = "MSRVTT_train.9k.csv"
TEST = "MSRVTT_JSFUSION_test.csv"
DATA = "MSRVTT_data.json"
PAIR = ("train_val_videodatainfo.json", "test_videodatainfo.json")


def edit_rows(folder: Path, change) -> None:
    rows = json.loads((folder / DATA).read_text())["sentences"]
    change(rows)
    (folder / DATA).write_text(json.dumps({"sentences": rows}))


def test_train(annotations):
    split = read_captions(annotations, "9k", "train")
    assert split.video_ids == ["video0", "video1", "video2"]
    assert [(c.caption_id, c.video_id, c.text) for c in split.captions][:3] == [
        ("video0#0", "video0", "video0 says 0"),
        ("video0#1", "video0", "video0 says 1"),
        ("video1#0", "video1", "video1 says 0"),
    ]
    assert len(split.captions) == 6
    assert split.documented_videos == 9_000
    assert read_captions(annotations, "7k", "train").documented_videos == 7_010


def test_test_split_keeps_commas(annotations):
    split = read_captions(annotations, "9k", "test")
    assert split.video_ids == ["video8", "video9"]
    assert [c.text for c in split.captions] == ["a dog, a cat and a cow", "a man cooks"]
    assert split.documented_videos == 1_000


def test_bom(annotations):
    expected = [read_captions(annotations, "9k", s) for s in ("train", "test")]
    for name in (LIST, TEST, DATA):
        path = annotations / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [read_captions(annotations, "9k", s) for s in ("train", "test")] == expected


def content(folder: Path, protocol: str, split: str):
    """What is read, whatever the files are called."""
    split = read_captions(folder, protocol, split)
    return replace(split, rows={}, places=dict.fromkeys(split.places, ""))


def test_other_public_forms_read_the_same(annotations):
    expected = content(annotations, "9k", "train")
    rows = json.loads((annotations / DATA).read_text())["sentences"]
    (annotations / DATA).unlink()
    pair = [annotations / name for name in PAIR]
    pair[0].write_text(json.dumps({"sentences": [r for r in rows if r["video_id"] != "video2"]}))
    pair[1].write_text(json.dumps({"sentences": [r for r in rows if r["video_id"] == "video2"]}))
    assert content(annotations, "9k", "train") == expected
    assert read_captions(annotations, "9k", "train").rows == {LIST: 3, PAIR[0]: 6, PAIR[1]: 2}
    renamed = [{"image_id": r["video_id"], "caption": r["caption"]} for r in rows]
    for path in pair:
        path.unlink()
    (annotations / "MSR_VTT.json").write_text(json.dumps({"annotations": renamed}))
    assert content(annotations, "9k", "train") == expected
    assert read_captions(annotations, "9k", "train").rows == {LIST: 3, "MSR_VTT.json": 8}


def test_half_of_the_pair_serves_what_it_has(annotations):
    (annotations / DATA).rename(annotations / PAIR[0])
    assert len(read_captions(annotations, "9k", "train").captions) == 6
    write_lists(annotations, ["video0", "video7010"], [("video8", "a dog")])
    message = rf"{LIST}, row 2 .*video7010 has no caption in .*{PAIR[0]} \({PAIR[1]} is not there\)"
    with pytest.raises(UserError, match=message):
        read_captions(annotations, "9k", "train")


@pytest.mark.parametrize("caption", ["", "  "])
def test_empty_training_captions_are_counted(annotations, caption):
    edit_rows(annotations, lambda rows: rows[0].update(caption=caption))
    split = read_captions(annotations, "9k", "train")
    assert [(c.caption_id, c.text) for c in split.captions][:2] == [
        ("video0#0", "video0 says 1"),
        ("video1#0", "video1 says 0"),
    ]
    assert split.left_out_counts() == {"empty captions": 1}
    (empty,) = split.left_out["empty captions"]
    assert empty == ("video0", f"{annotations / DATA}, video0, caption 1")


def test_training_row_whose_caption_is_no_text(annotations):
    edit_rows(annotations, lambda rows: rows[4].update(caption=None))
    with pytest.raises(UserError, match=rf"{DATA}, row 5 .* the caption is of type NoneType"):
        read_captions(annotations, "9k", "train")


def test_ids_match_with_or_without_extension(annotations):
    expected = [caption.text for caption in read_captions(annotations, "9k", "train").captions]
    write_lists(annotations, [f"video{i}.mp4" for i in range(3)], [("video8.mp4", "a dog")])
    split = read_captions(annotations, "9k", "train")
    assert split.video_ids == ["video0.mp4", "video1.mp4", "video2.mp4"]
    assert [caption.text for caption in split.captions] == expected
    edit_rows(
        annotations, lambda rows: [row.update(video_id=row["video_id"] + ".avi") for row in rows]
    )
    assert [c.text for c in read_captions(annotations, "9k", "train").captions] == expected


def test_row_of_a_video_not_used_may_lack_its_caption(annotations):
    edit_rows(annotations, lambda rows: rows[3].update(caption=None))
    assert len(read_captions(annotations, "9k", "train").captions) == 6


@pytest.mark.parametrize("line", ["r,m,video9,", 'r,m,video9,"  "', "r,m,video9"])
def test_test_row_without_caption(annotations, line):
    (annotations / TEST).write_text(f"key,vid_key,video_id,sentence\nr,m,video8,a dog\n{line}\n")
    with pytest.raises(UserError, match=rf"{TEST}, row 2 \(line 3\): video9 has no caption"):
        read_captions(annotations, "9k", "test")


def test_unquoted_comma_is_not_cut_off(annotations):
    (annotations / TEST).write_text("key,vid_key,video_id,sentence\nr,m,video8,a dog, a cat\n")
    with pytest.raises(UserError, match=r"row 1 .*more fields"):
        read_captions(annotations, "9k", "test")


@pytest.mark.parametrize("content", ['{"sentences": [{"video_id": "vid', "[]", '{"other": []}'])
def test_malformed_json(annotations, content):
    (annotations / DATA).write_text(content)
    with pytest.raises(UserError, match=DATA):
        read_captions(annotations, "9k", "train")


def test_other_columns(annotations):
    (annotations / TEST).write_text("video,text\nvideo8,a dog\n")
    with pytest.raises(UserError, match="columns are video, text, but video_id, sentence"):
        read_captions(annotations, "9k", "test")


@pytest.mark.parametrize(("split", "name"), [("train", LIST), ("test", TEST)])
def test_id_listed_twice(annotations, split, name):
    path = annotations / name
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[1]]) + "\n")
    with pytest.raises(UserError, match=rf"{name}, row {len(lines)} .*second time.*row 1 "):
        read_captions(annotations, "9k", split)


def test_training_id_without_captions(annotations):
    edit_rows(annotations, lambda rows: rows.__setitem__(slice(None), rows[:1]))
    with pytest.raises(UserError, match=rf"{LIST}, row 2 .*video1 has no caption.*2 of 3"):
        read_captions(annotations, "9k", "train")


def test_id_in_train_and_test(annotations):
    write_lists(annotations, ["video0", "video9"], [("video8", "a dog"), ("video9", "a man")])
    with pytest.raises(UserError, match=rf"{LIST}, row 2 .*video9 is also a test.*{TEST}, row 2"):
        read_captions(annotations, "9k", "train")


@pytest.mark.parametrize(("name", "split"), [(LIST, "train"), (TEST, "test"), (DATA, "train")])
def test_missing_file_is_named(annotations, name, split):
    (annotations / name).unlink()
    with pytest.raises(UserError, match=name) as error:
        read_captions(annotations, "9k", split)
    if name == DATA:
        assert "MSR_VTT.json" in str(error.value)
        assert "train_val_videodatainfo.json" in str(error.value)


def test_not_utf8(annotations):
    (annotations / TEST).write_bytes(b"key,vid_key,video_id,sentence\nr,m,video8,caf\xe9\n")
    with pytest.raises(UserError, match=rf"{TEST}, line 2: byte 0xe9 is not UTF-8"):
        read_captions(annotations, "9k", "test")


OFFICIAL = {"train": (0, 6_512), "val": (6_513, 7_009), "test": (7_010, 9_999)}


@pytest.fixture
def official(annotations):
    """Two captions for the first and the last video of each official split, and one for others."""
    rows = [
        {"video_id": f"video{n}", "caption": f"{n} says {k}", "sen_id": k}
        for k in range(2)
        for n in (9_999, 7_010, 7_009, 6_513, 6_512, 0)
    ]
    others = [{"video_id": v, "caption": "no"} for v in ("video10000", "video007", "x")]
    (annotations / DATA).write_text(json.dumps({"sentences": [*rows, *others]}))
    return annotations


@pytest.mark.parametrize(("split", "documented"), [("train", 6_513), ("val", 497), ("test", 2_990)])
def test_full(official, split, documented):
    result = read_captions(official, "full", split)
    numbers = OFFICIAL[split]
    assert result.video_ids == [f"video{n}" for n in numbers]
    assert [c.text for c in result.captions] == [f"{n} says {k}" for n in numbers for k in range(2)]
    assert result.documented_videos == documented
    assert result.documented_captions == 20 * documented
    silent = f"official {split} videos without a caption"
    assert result.left_out_counts() == {silent: documented - 2}
    assert result.left_out[silent][0] == (f"video{numbers[0] + 1}", "")
    assert result.rows == {DATA: 15}


@pytest.mark.parametrize("split", OFFICIAL)
def test_full_from_every_public_form(official, split):
    expected = content(official, "full", split)
    rows = json.loads((official / DATA).read_text())["sentences"]
    (official / DATA).unlink()
    tested = ("video7010", "video9999")
    for name, of_test in (("train_val", False), ("test", True)):
        part = [row for row in rows if (row["video_id"] in tested) == of_test]
        text = json.dumps({"info": {}, "videos": [], "sentences": part})
        (official / f"{name}_videodatainfo.json").write_text(text)
    assert content(official, "full", split) == expected
    needed, other = reversed(PAIR) if split == "test" else PAIR
    (official / other).unlink()
    assert content(official, "full", split) == expected
    (official / needed).rename(official / other)
    with pytest.raises(UserError, match=rf"not there: {DATA} or MSR_VTT.json or {needed}\."):
        read_captions(official, "full", split)
    renamed = [{"image_id": r["video_id"], "caption": r["caption"]} for r in rows]
    (official / "MSR_VTT.json").write_text(json.dumps({"annotations": renamed}))
    assert content(official, "full", split) == expected


@pytest.mark.parametrize(("protocol", "split"), [("full", "test"), ("full", "val"), ("7k", "val")])
def test_captions_file_without_the_official_videos(annotations, protocol, split):
    edit_rows(annotations, lambda rows: rows.__setitem__(slice(None), rows[:1]))
    first, last = OFFICIAL[split]
    message = (
        rf"{DATA}: no captions of the .* official {split} videos \(video{first} to video{last}"
    )
    with pytest.raises(UserError, match=message):
        read_captions(annotations, protocol, split)


def test_7k_validates_on_what_it_does_not_train_on(official):
    write_lists(official, ["video0", "video6513", "video6512", "video7009"], [("video9999", "a")])
    train = read_captions(official, "7k", "train")
    assert train.video_ids == ["video0", "video6512"]
    assert train.left_out_counts() == {"validation videos": 2}
    path = official / "MSRVTT_train.7k.csv"
    places = [f"{path}, row {row} (line {row + 1})" for row in (2, 4)]
    assert train.left_out["validation videos"] == [
        ("video6513", places[0]),
        ("video7009", places[1]),
    ]
    assert train.rows["MSRVTT_train.7k.csv"] == 4
    # documented are those of the list less the two that validate
    assert (train.documented_videos, train.documented_captions) == (7_008, 140_160)
    write_lists(official, ["video0", "video6513.mp4"], [("video9999", "a")])
    assert read_captions(official, "7k", "train").video_ids == ["video0"]
    write_lists(official, ["video0", "video6513", "video6512", "video7009"], [("video9999", "a")])
    val = read_captions(official, "7k", "val")
    assert val == read_captions(official, "full", "val")
    assert read_captions(official, "9k", "train").video_ids[1] == "video6513"
    write_lists(official, ["video0"], [("video6513", "a")])
    with pytest.raises(UserError, match=rf"video6513 is also a test video .*{TEST}, row 1"):
        read_captions(official, "7k", "val")


def test_half_a_surrogate_pair_can_be_encoded(annotations):
    edit_rows(annotations, lambda rows: rows[0].update(caption="a \ud83d dog \U0001f415"))
    text = read_captions(annotations, "9k", "train").captions[0].text
    assert text == "a \ufffd dog \U0001f415"
