import json

import pytest
from formats import write_json, write_vatex

from tvr.dataloaders.vatex import read_captions
from tvr.utils.errors import UserError

NAME = "ref_captions.json"


@pytest.fixture
def folder(tmp_path):
    write_vatex(tmp_path)
    return tmp_path


def test_captions_in_the_order_of_the_list(folder):
    split = read_captions(folder, "standard", "train")
    assert [(c.video_id, c.text) for c in split.captions] == [
        ("--07WQ2iBlw_000001_000011", "A man ties a knot."),
        ("a_000002_000012", "A boy rides."),
    ]
    empty = "--07WQ2iBlw_000001_000011"
    place = f"{folder / NAME}, {empty}, caption 2"
    assert split.left_out == {"empty captions": [(empty, place)]}
    assert split.rows == {"train_list.txt": 2, NAME: 4}
    assert (split.documented_videos, split.documented_captions) == (25_991, 259_910)
    test = read_captions(folder, "standard", "test")
    assert [c.text for c in test.captions] == ["A cook.", "Café 🍳"]
    assert (test.documented_videos, test.documented_captions) == (1_500, 15_000)
    assert read_captions(folder, "standard", "val").documented_videos == 1_500


def test_the_other_public_form_reads_the_same(folder):
    splits = ("train", "val", "test")
    expected = [read_captions(folder, "standard", split) for split in splits]
    captions = json.loads((folder / NAME).read_text())
    (folder / NAME).unlink()
    both = {v: {"videoID": v, "enCap": said, "chCap": ["一"]} for v, said in captions.items()}
    write_json(folder / "vatex_data.json", both)
    for before, split in zip(expected, splits, strict=True):
        after = read_captions(folder, "standard", split)
        assert (after.video_ids, after.captions) == (before.video_ids, before.captions)
        assert after.left_out_counts() == before.left_out_counts()
        assert set(after.rows) == {f"{split}_list.txt", "vatex_data.json"}


@pytest.mark.parametrize("said", ["A dog.", {"chCap": ["一"]}, None, [3]])
def test_captions_of_another_shape(folder, said):
    write_json(folder / NAME, {"b_000003_000013": said})
    with pytest.raises(UserError, match=f"{NAME}, b_000003_000013"):
        read_captions(folder, "standard", "val")


def test_video_without_captions(folder):
    write_json(folder / NAME, {"b_000003_000013": ["", " "]})
    with pytest.raises(UserError, match=r"val_list.txt, line 1: b_000003_000013 has no caption"):
        read_captions(folder, "standard", "val")
