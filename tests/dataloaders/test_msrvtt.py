import json
from pathlib import Path

import pytest
from lists import write_lists

from tvr.dataloaders.msrvtt import read_captions
from tvr.utils.errors import UserError

LIST = "MSRVTT_train.9k.csv"
TEST = "MSRVTT_JSFUSION_test.csv"
DATA = "MSRVTT_data.json"


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


def test_other_public_forms_read_the_same(annotations):
    expected = read_captions(annotations, "9k", "train")
    rows = json.loads((annotations / DATA).read_text())["sentences"]
    (annotations / DATA).unlink()
    pair = [annotations / f"{name}_videodatainfo.json" for name in ("train_val", "test")]
    pair[0].write_text(json.dumps({"sentences": [r for r in rows if r["video_id"] != "video2"]}))
    pair[1].write_text(json.dumps({"sentences": [r for r in rows if r["video_id"] == "video2"]}))
    assert read_captions(annotations, "9k", "train") == expected
    renamed = [{"image_id": r["video_id"], "caption": r["caption"]} for r in rows]
    for path in pair:
        path.unlink()
    (annotations / "MSR_VTT.json").write_text(json.dumps({"annotations": renamed}))
    assert read_captions(annotations, "9k", "train") == expected


@pytest.mark.parametrize("caption", ["", "  ", None])
def test_training_row_without_caption(annotations, caption):
    edit_rows(annotations, lambda rows: rows[4].update(caption=caption))
    with pytest.raises(UserError, match=rf"{DATA}, row 5 .*video0 has no caption"):
        read_captions(annotations, "9k", "train")


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
    with pytest.raises(UserError, match=TEST):
        read_captions(annotations, "9k", "test")
