"""DiDeMo and ActivityNet: all sentences of a video are one query."""

import json

import pytest
from formats import UNREADABLE, didemo_entry, write_activity, write_didemo, write_ids, write_json

from tvr.dataloaders import activity, didemo
from tvr.utils.errors import UserError


@pytest.fixture
def flickr(tmp_path):
    write_didemo(tmp_path)
    return tmp_path


@pytest.fixture
def activities(tmp_path):
    write_activity(tmp_path)
    return tmp_path


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    write_json(path, content)


def test_didemo_paragraphs(flickr):
    split = didemo.read_captions(flickr, "standard", "test")
    assert split.video_ids == ["3@N03_3_cc.mp4", "4@N04_4_dd.", UNREADABLE]
    assert [(c.caption_id, c.text) for c in split.captions] == [
        ("3@N03_3_cc.mp4#0", "the camera pans."),
        ("4@N04_4_dd.#0", "a man turns he sits down"),
        (f"{UNREADABLE}#0", "a child waves"),
    ]
    assert split.segments == dict.fromkeys(split.video_ids, (0.0, 31.0))
    assert split.known_broken == {UNREADABLE}
    assert (split.documented_videos, split.documented_captions) == (1_004, 1_004)
    assert split.left_out_counts() == {}
    assert split.rows == {"test_list.txt": 3, "test_data.json": 4}


def test_didemo_names_what_it_leaves_out(flickr):
    split = didemo.read_captions(flickr, "standard", "train")
    assert split.left_out_counts() == {"annotated videos that are not in the list": 1}
    write_ids(flickr / "test_list.txt", ["3@N03_3_cc.mp4", "8@N08_8_hh.mp4"])
    path = flickr / "test_data.json"
    edit(path, lambda rows: rows.append(didemo_entry(9, "3@N03_3_cc.mp4", " ")))
    split = didemo.read_captions(flickr, "standard", "test")
    assert split.video_ids == ["3@N03_3_cc.mp4"]
    assert split.left_out == {
        "listed videos without annotation": [
            ("8@N08_8_hh.mp4", f"{flickr / 'test_list.txt'}, line 2"),
        ],
        "annotated videos that are not in the list": [
            ("4@N04_4_dd.", f"{path}, entry 1"),
            (UNREADABLE, f"{path}, entry 3"),
        ],
        "empty captions": [("3@N03_3_cc.mp4", f"{path}, 3@N03_3_cc.mp4, sentence 2")],
    }


def test_didemo_names_match_without_extension(flickr):
    expected = didemo.read_captions(flickr, "standard", "test").captions
    write_ids(flickr / "test_list.txt", ["3@N03_3_cc", "4@N04_4_dd.mp4", UNREADABLE[:-4]])
    split = didemo.read_captions(flickr, "standard", "test")
    assert [c.text for c in split.captions] == [c.text for c in expected]
    assert split.known_broken == {UNREADABLE[:-4]}


@pytest.mark.parametrize("change", [{"video": None}, {"description": None}, {"description": 3}])
def test_didemo_entry_without_a_part(flickr, change):
    edit(flickr / "test_data.json", lambda rows: rows[1].update(change))
    with pytest.raises(UserError, match=r"test_data.json, entry 2"):
        didemo.read_captions(flickr, "standard", "test")


def test_activity_paragraphs(activities):
    split = activity.read_captions(activities, "standard", "train")
    assert split.video_ids == ["v_QOlSCBRmfWY"]
    (caption,) = split.captions
    assert caption.text == "A woman dances. The girl  dances around."
    assert split.segments == {"v_QOlSCBRmfWY": (0.0, 83.0)}
    assert split.documented_videos == 10_009
    empty = f"{activities / 'train.json'}, v_QOlSCBRmfWY, sentence 3"
    assert split.left_out == {
        "listed videos without annotation": [("v_gone", f"{activities / 'train_ids.json'}, id 2")],
        "annotated videos that are not in the list": [],
        "empty captions": [("v_QOlSCBRmfWY", empty)],
    }
    assert split.rows == {"train_ids.json": 2, "train.json": 1}


def test_activity_prefix_on_either_side(activities):
    split = activity.read_captions(activities, "standard", "test")
    (caption,) = split.captions
    assert (caption.video_id, caption.text) == ("v_uqiMw7tQ1Cc", "Weights are lifted.")
    assert split.segments == {"v_uqiMw7tQ1Cc": (0.0, 55.0)}
    assert split.documented_videos == 4_917
    other = ("v_other", str(activities / "val_1.json"))
    assert split.left_out["annotated videos that are not in the list"] == [other]
    write_json(activities / "val_ids.json", ["uqiMw7tQ1Cc"])
    (caption,) = activity.read_captions(activities, "standard", "test").captions
    assert caption.text == "Weights are lifted."


def test_activity_id_that_begins_with_the_prefix(activities):
    # YouTube's own id is v_jDPR33L4q
    write_json(activities / "train_ids.json", ["v_v_jDPR33L4q", "v_QOlSCBRmfWY"])
    edit(activities / "train.json", lambda all_: all_.update(v_jDPR33L4q=all_["v_QOlSCBRmfWY"]))
    split = activity.read_captions(activities, "standard", "train")
    assert split.video_ids == ["v_v_jDPR33L4q", "v_QOlSCBRmfWY"]
    write_json(activities / "val_ids.json", ["v_jDPR33L4q"])
    with pytest.raises(UserError, match=r"id 1: v_v_jDPR33L4q is also a test video.*id 1\)"):
        activity.read_captions(activities, "standard", "train")
    write_json(activities / "train_ids.json", ["v_v_jDPR33L4q", "v_jDPR33L4q"])
    with pytest.raises(UserError, match=r"id 2: v_jDPR33L4q is listed a second time"):
        activity.read_captions(activities, "standard", "train")


@pytest.mark.parametrize("duration", [None, 0, -1, True, "82", float("nan"), float("inf")])
def test_activity_duration(activities, duration):
    edit(activities / "train.json", lambda all_: all_["v_QOlSCBRmfWY"].update(duration=duration))
    with pytest.raises(UserError, match=r"train.json, v_QOlSCBRmfWY: the duration is"):
        activity.read_captions(activities, "standard", "train")


@pytest.mark.parametrize("sentences", [None, [], "A woman.", [None], [" ", ""]])
def test_activity_sentences(activities, sentences):
    edit(activities / "train.json", lambda all_: all_["v_QOlSCBRmfWY"].update(sentences=sentences))
    with pytest.raises(UserError, match=r"train.json(,|:) v_QOlSCBRmfWY"):
        activity.read_captions(activities, "standard", "train")


def test_activity_annotated_twice(activities):
    path = activities / "train.json"
    edit(path, lambda all_: all_.update(QOlSCBRmfWY=all_["v_QOlSCBRmfWY"]))
    with pytest.raises(UserError, match=r"train.json: v_QOlSCBRmfWY is annotated twice"):
        activity.read_captions(activities, "standard", "train")


def test_activity_id_listed_twice(activities):
    write_json(activities / "train_ids.json", ["v_a", "v_b", "a"])
    with pytest.raises(UserError, match=r"train_ids.json, id 3: a is .*first: .*id 1\)"):
        activity.read_captions(activities, "standard", "train")


def test_activity_test_video_in_training(activities):
    write_json(activities / "train_ids.json", ["v_QOlSCBRmfWY", "uqiMw7tQ1Cc"])
    with pytest.raises(UserError, match=r"train_ids.json, id 2: .*also a test.*val_ids.json, id 1"):
        activity.read_captions(activities, "standard", "train")


@pytest.mark.parametrize("reader", [didemo, activity])
def test_list_and_annotations_of_different_splits(tmp_path, reader):
    write_didemo(tmp_path)
    write_activity(tmp_path)
    (tmp_path / reader.ANNOTATIONS["train"]).unlink()
    (tmp_path / reader.ANNOTATIONS["test"]).rename(tmp_path / reader.ANNOTATIONS["train"])
    with pytest.raises(UserError, match=r"nor another listed video is in .*train"):
        reader.read_captions(tmp_path, "standard", "train")
