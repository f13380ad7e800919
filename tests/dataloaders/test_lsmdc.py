import pytest
from formats import JUNO, PIANIST, SPARKLE, TITANIC, UGLY, lsmdc_row, write_lsmdc

from tvr.dataloaders.lsmdc import read_captions
from tvr.utils.errors import UserError

TRAIN = "LSMDC16_annos_training.csv"
VAL = "LSMDC16_annos_val.csv"
TEST = "LSMDC16_challenge_1000_publictect.csv"


@pytest.fixture
def folder(tmp_path):
    write_lsmdc(tmp_path)
    return tmp_path


def texts(folder, split="train"):
    return [caption.text for caption in read_captions(folder, "standard", split).captions]


def test_repeated_id_keeps_every_caption(folder):
    split = read_captions(folder, "standard", "train")
    assert split.video_ids == [UGLY, TITANIC]
    assert [(c.caption_id, c.text) for c in split.captions] == [
        (f"{UGLY}#0", "SOMEONE waits."),
        (f"{UGLY}#1", 'He says "hello" to her.'),
        (f"{TITANIC}#0", "SOMEONE swims."),
    ]
    # documented are rows: one clip less for the row that repeats
    assert (split.documented_videos, split.documented_captions) == (101_078, 101_079)
    assert split.known_broken == frozenset()


def test_test_split(folder):
    split = read_captions(folder, "standard", "test")
    assert split.video_ids == [PIANIST, SPARKLE]
    assert [caption.text for caption in split.captions] == ["He plays, softly.", "She sings."]
    assert (split.documented_videos, split.documented_captions) == (1_000, 1_000)
    assert split.known_broken == {PIANIST, SPARKLE}
    assert read_captions(folder, "standard", "val").documented_videos == 7_408


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (lsmdc_row(JUNO, '"She waits.'), "She waits."),
        ('"' + lsmdc_row(JUNO, 'She waits."'), "She waits."),
        (lsmdc_row(f'"{JUNO}"', '"She waits.'), "She waits."),
        (lsmdc_row(JUNO, '"Go" she says.'), '"Go" she says.'),
        (lsmdc_row(JUNO, '"She says ""go""."'), 'She says "go".'),
        ('"' + lsmdc_row(JUNO, 'She says ""go""."'), 'She says "go".'),
        (lsmdc_row(JUNO, '5" of "rain'), '5" of "rain'),
        (lsmdc_row(JUNO, "5'6\" tall"), "5'6\" tall"),
        (lsmdc_row(JUNO, "Café 🎬 "), "Café 🎬"),
        (lsmdc_row(JUNO, "She waits.\t"), "She waits."),
        (lsmdc_row(JUNO, "One line\u2028only."), "One line\u2028only."),
    ],
)
def test_quotes_and_quirks(folder, row, text):
    (folder / VAL).write_text(row)
    assert read_captions(folder, "standard", "val").video_ids == [JUNO]
    assert texts(folder, "val") == [text]


@pytest.mark.parametrize(
    "row",
    [
        f"{JUNO},0,1,0,1,A man.",
        f"{JUNO}\t0\tA man.",
        lsmdc_row(JUNO, "a\tb"),
        lsmdc_row("", "a"),
        "clip_id\tstart_aligned\tend_aligned\tstart_extracted\tend_extracted\tsentence\n",
        f"{JUNO}\tShe walks.\t00.00.51.926\t00.00.54.129\t00.00.51.926\t00.00.54.129\n",
        f"{JUNO}\t00.00.51.926\t00.00.54.129\t00.00.51.926\tShe walks.",
    ],
)
def test_other_columns(folder, row):
    (folder / VAL).write_text(lsmdc_row(TITANIC, "a") + row)
    with pytest.raises(UserError, match=rf"{VAL}, line 2: 6 columns separated by tabs"):
        read_captions(folder, "standard", "val")


@pytest.mark.parametrize(
    "times",
    [
        "00.00.51.926\t00.00.54.129\t00.00.51.926\t00.00.54.129",
        "00:00:51.926\t00:00:54.129\t\t",
        "1:00:51\t1:00:54\t1.0.51\t",
        "\t51.926\t-1\t00:00:54,129",
    ],
)
def test_times_as_copies_have_them(folder, times):
    (folder / VAL).write_text(f"{JUNO}\t{times}\tShe walks.\n")
    assert texts(folder, "val") == ["She walks."]


def test_empty_sentence(folder):
    rows = lsmdc_row(JUNO, "") + lsmdc_row(JUNO, "She waits.") + lsmdc_row(UGLY, " ")
    (folder / VAL).write_text(rows)
    with pytest.raises(UserError, match=rf"{VAL}, line 1: {JUNO} has no sentence"):
        read_captions(folder, "standard", "val")
    (folder / VAL).rename(folder / TRAIN)
    split = read_captions(folder, "standard", "train")
    assert split.video_ids == [JUNO]
    empty = [(JUNO, f"{folder / TRAIN}, line 1"), (UGLY, f"{folder / TRAIN}, line 3")]
    assert split.left_out == {"empty captions": empty}
    assert split.rows == {TRAIN: 3}


def test_id_twice_in_the_test_file(folder):
    path = folder / TEST
    path.write_text(path.read_text() + lsmdc_row(PIANIST, "He stops."))
    with pytest.raises(UserError, match=rf"{TEST}, line 3: {PIANIST} .*first: .*{TEST}, line 1"):
        read_captions(folder, "standard", "test")


def test_test_clip_in_training(folder):
    path = folder / TRAIN
    path.write_text(path.read_text() + lsmdc_row(SPARKLE, "She sings."))
    with pytest.raises(UserError, match=rf"{TRAIN}, line 4: .*also a test.*{TEST}, line 2"):
        read_captions(folder, "standard", "train")


@pytest.mark.parametrize(("split", "name"), [("train", TRAIN), ("val", VAL)])
def test_overlaps_of_training_and_validation(folder, split, name):
    (folder / name).write_text(lsmdc_row(JUNO if split == "train" else PIANIST, "She walks."))
    later = "val" if split == "train" else "test"
    with pytest.raises(UserError, match=rf"{name}, line 1: .*is also a {later} video .*line 1"):
        read_captions(folder, "standard", split)


def test_empty_file(folder):
    (folder / VAL).write_text("\n")
    with pytest.raises(UserError, match=f"{VAL}: no row with a sentence"):
        read_captions(folder, "standard", "val")
