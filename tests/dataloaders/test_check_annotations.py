"""What the data doctor says of annotation files; the folder of videos stays empty."""

import csv
import json

import formats
import pytest
from formats import UGLY, UNREADABLE, didemo_entry, lsmdc_row, write_ids, write_json

from tvr.dataloaders.check import main

CAPTIONS = ("ref_captions.json", "vatex_data.json")
PAIR = ("train_val_videodatainfo.json", "test_videodatainfo.json")


@pytest.fixture
def anns(tmp_path):
    for name in ("videos", "anns"):
        (tmp_path / name).mkdir(exist_ok=True)
    return tmp_path / "anns"


@pytest.fixture
def doctor(anns, capsys):
    """A function: the parts of the report by split, and the rows of the differences.

    Differences about videos and documented sizes are not among them.
    """

    def run(datatype, protocol=None):
        paths = ("--anno_path", anns, "--video_path", anns.parent / "videos")
        named = ("--csv", anns.parent / "found.csv")
        chosen = ("--protocol", protocol) if protocol else ()
        command = ("--datatype", datatype, *paths, *named, *chosen)
        assert main([str(part) for part in command]) == 1
        _, *parts = capsys.readouterr().out.split("\n\n")
        with (anns.parent / "found.csv").open(newline="") as file:
            _, *rows = csv.reader(file)
        noise = ("no video file", "documented are")
        rows = [tuple(row) for row in rows if not any(text in row[3] for text in noise)]
        return {part.split("\n")[0]: part.split("\n")[1:] for part in parts}, rows

    return run


def test_every_missing_file_is_named(anns, doctor):
    formats.write_vatex(anns)
    for name in ("train_list.txt", CAPTIONS[0]):
        (anns / name).unlink()
    parts, rows = doctor("vatex")
    either = " or ".join(CAPTIONS)
    assert parts["train"] == [
        "  annotation file missing: train_list.txt",
        f"  annotation file missing: {either}",
    ]
    assert parts["val"] == [
        "  annotation file: val_list.txt",
        f"  annotation file missing: {either}",
    ]
    (total,) = (lines for name, lines in parts.items() if name.startswith("video files"))
    refusal = f"refused: --anno_path {anns}: not there: train_list.txt; {either}. data/README.md"
    assert sum(line.startswith(f"training: {refusal}") for line in total) == 1
    assert not any(line.startswith(f"evaluation: {refusal}") for line in total)
    assert rows == [
        ("train", "", str(anns), "no annotation file train_list.txt"),
        *((s, "", str(anns), f"no annotation file {either}") for s in ("train", "val", "test")),
    ]


@pytest.mark.parametrize("used", CAPTIONS)
def test_the_alternative_that_is_read_is_named(anns, doctor, used):
    formats.write_vatex(anns)
    # the second is read only where the first is not there
    (anns / CAPTIONS[1]).write_bytes((anns / CAPTIONS[0]).read_bytes())
    if used == CAPTIONS[1]:
        (anns / CAPTIONS[0]).unlink()
    parts, _ = doctor("vatex")
    assert parts["train"][:3] == [
        "  annotation file: train_list.txt, 2 rows",
        f"  annotation file: {used}, 4 rows (the first there of {', '.join(CAPTIONS)})",
        "  ids: 2, documented 25,991",
    ]


@pytest.mark.parametrize(
    ("half", "ids", "splits"),
    [(PAIR[0], (0, 6_512, 6_513), ["train", "val"]), (PAIR[1], (7_010, 9_999), ["test"])],
)
def test_half_of_the_organisers_pair(anns, doctor, half, ids, splits):
    captions = [{"video_id": f"video{n}", "caption": "a dog", "sen_id": n} for n in ids]
    write_json(anns / half, {"sentences": captions})
    parts, rows = doctor("msrvtt", "full")
    first = {split: parts[split][0] for split in ("train", "val", "test")}
    read, missing = f"  annotation file: {half}, {len(ids)} rows (", "  annotation file missing: "
    assert [split for split, line in first.items() if line.startswith(read)] == splits
    assert [split for split, line in first.items() if not line.startswith(missing)] == splits
    silent = f"left out: official {splits[0]} videos without a caption"
    assert (splits[0], f"video{ids[0] + 1}", "", silent) in rows


def test_both_halves_of_the_organisers_pair(annotations, anns, doctor):
    rows = json.loads((annotations / "MSRVTT_data.json").read_text())["sentences"]
    (annotations / "MSRVTT_data.json").unlink()
    write_json(annotations / PAIR[0], {"sentences": rows[:-1]})
    write_json(annotations / PAIR[1], {"sentences": rows[-1:]})
    parts, differences = doctor("msrvtt")
    first = "(the first there of MSRVTT_data.json, MSR_VTT.json, train_val_videodatainfo.json)"
    assert parts["train"][:4] == [
        "  annotation file: MSRVTT_train.9k.csv, 3 rows",
        f"  annotation file: {PAIR[0]}, 7 rows {first}",
        f"  annotation file: {PAIR[1]}, 1 rows",
        "  ids: 3, documented 9,000",
    ]
    assert differences == []


def test_what_a_reader_leaves_out_is_listed(anns, doctor):
    formats.write_didemo(anns)
    write_ids(anns / "test_list.txt", ["3@N03_3_cc.mp4", "8@N08_8_hh.mp4"])
    path = anns / "test_data.json"
    more = [didemo_entry(8, "3@N03_3_cc.mp4", " "), didemo_entry(9, "half \ud83d", "a")]
    write_json(path, [*json.loads(path.read_text()), *more])
    parts, rows = doctor("didemo")
    assert "  left out: 3 annotated videos that are not in the list" in parts["test"]
    assert "  left out: 1 empty captions" in parts["test"]
    silent = "left out: listed videos without annotation"
    other = "left out: annotated videos that are not in the list"
    empty = f"{path}, 3@N03_3_cc.mp4, sentence 2"
    assert rows == [
        ("train", "9@N9_9_x.", f"{anns / 'train_data.json'}, entry 2", other),
        ("test", "8@N08_8_hh.mp4", f"{anns / 'test_list.txt'}, line 2", silent),
        ("test", "3@N03_3_cc.mp4", empty, "left out: empty captions"),
        ("test", "4@N04_4_dd.", f"{path}, entry 1", other),
        ("test", UNREADABLE, f"{path}, entry 3", other),
        ("test", "half \ufffd", f"{path}, entry 6", other),
    ]


def test_rows_without_a_sentence_are_listed(anns, doctor):
    formats.write_lsmdc(anns)
    path = anns / "LSMDC16_annos_training.csv"
    path.write_text(path.read_text() + lsmdc_row("x_1.0-2.0", "") + lsmdc_row(UGLY, " "))
    parts, rows = doctor("lsmdc")
    assert parts["train"][:4] == [
        "  annotation file: LSMDC16_annos_training.csv, 5 rows",
        "  ids: 2, documented 101,078",
        "  captions: 3, documented 101,079",
        "  left out: 2 empty captions",
    ]
    assert rows == [
        ("train", "x_1.0-2.0", f"{path}, line 4", "left out: empty captions"),
        ("train", UGLY, f"{path}, line 5", "left out: empty captions"),
    ]
