"""Bad input that any of the files may hold: one message with the file and the place."""

import formats
import pytest

from tvr.dataloaders.annotations import (
    csv_rows,
    json_object,
    listed_ids,
    read_text,
    text_lines,
)
from tvr.dataloaders.benchmarks import DATATYPES
from tvr.utils.errors import UserError

LISTED = [("msvd", "train_list.txt"), ("didemo", "train_list.txt"), ("vatex", "train_list.txt")]
JSONS = [
    ("didemo", "train_data.json"),
    ("activity", "train_ids.json"),
    ("activity", "train.json"),
    ("vatex", "ref_captions.json"),
]
TEXTS = [*LISTED, *JSONS, ("lsmdc", "LSMDC16_annos_training.csv")]
FILES = [*TEXTS, ("msvd", "raw-captions.pkl")]


def written(datatype, folder):
    getattr(formats, f"write_{datatype}")(folder)
    return folder


def read(datatype, folder, split="train"):
    return DATATYPES[datatype].read_captions(folder, "standard", split)


@pytest.mark.parametrize(("datatype", "name"), FILES)
def test_missing_file_is_named(tmp_path, datatype, name):
    (written(datatype, tmp_path) / name).unlink()
    with pytest.raises(UserError, match=f"not there: .*{name}"):
        read(datatype, tmp_path)


@pytest.mark.parametrize("datatype", ["msvd", "lsmdc", "didemo", "activity", "vatex"])
def test_the_needed_files_are_enough(tmp_path, datatype):
    for folder in ("all", "needed"):
        (tmp_path / folder).mkdir()
    written(datatype, tmp_path / "all")
    for (name,) in (names[:1] for names in DATATYPES[datatype].needed_files("standard", "train")):
        (tmp_path / "all" / name).rename(tmp_path / "needed" / name)
    split = read(datatype, tmp_path / "needed")
    assert split.captions
    assert set(split.rows) == {path.name for path in (tmp_path / "needed").iterdir()}


def test_all_missing_files_are_named(tmp_path):
    message = "not there: train_list.txt; ref_captions.json or vatex_data.json. data/README.md"
    with pytest.raises(UserError, match=message):
        read("vatex", tmp_path)


@pytest.mark.parametrize(("datatype", "name"), TEXTS)
def test_byte_order_mark_and_windows_line_ends(tmp_path, datatype, name):
    expected = read(datatype, written(datatype, tmp_path))
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert read(datatype, tmp_path) == expected


@pytest.mark.parametrize(("datatype", "name"), TEXTS)
def test_latin_1(tmp_path, datatype, name):
    path = written(datatype, tmp_path) / name
    path.write_bytes(path.read_bytes() + b"\ncaf\xe9\n")
    line = path.read_bytes().count(b"\n")
    with pytest.raises(UserError, match=rf"{name}, line {line}: byte 0xe9 is not UTF-8"):
        read(datatype, tmp_path)


@pytest.mark.parametrize(("datatype", "name"), JSONS)
def test_truncated_json(tmp_path, datatype, name):
    path = written(datatype, tmp_path) / name
    path.write_text(path.read_text()[:-5])
    with pytest.raises(UserError, match=rf"{name}: not valid JSON .*line 1 .*cut off"):
        read(datatype, tmp_path)


@pytest.mark.parametrize(("datatype", "name"), JSONS)
@pytest.mark.parametrize("content", ["3", "null", '{"a": 1}', "[1]", "[[]]", "[]", "{}"])
def test_json_of_another_shape(tmp_path, datatype, name, content):
    (written(datatype, tmp_path) / name).write_text(content)
    with pytest.raises(UserError, match=name):
        read(datatype, tmp_path)


@pytest.mark.parametrize(("datatype", "name"), LISTED)
def test_id_listed_twice(tmp_path, datatype, name):
    path = written(datatype, tmp_path) / name
    ids = path.read_text().splitlines()
    path.write_text("\n".join([*ids, "", ids[0]]))
    place = rf"{name}, line {len(ids) + 2}: .* second time \(first: .*{name}, line 1\)"
    with pytest.raises(UserError, match=place):
        read(datatype, tmp_path)


@pytest.mark.parametrize(("split", "later"), [("train", "val"), ("train", "test"), ("val", "test")])
@pytest.mark.parametrize("datatype", ["msvd", "didemo", "vatex"])
def test_video_of_a_later_split(tmp_path, datatype, split, later):
    written(datatype, tmp_path)
    path = tmp_path / f"{split}_list.txt"
    shared = (tmp_path / f"{later}_list.txt").read_text().splitlines()[0]
    path.write_text(path.read_text() + shared + "\n")
    message = rf"{split}_list.txt, line .*is also a {later} video.*{later}_list.txt"
    with pytest.raises(UserError, match=message):
        read(datatype, tmp_path, split)


@pytest.mark.parametrize(
    "content",
    [
        *("video_id,sentence\nvideo1,a dog\n", "video1\ta dog\n", "video1<br>\n"),
        "video1\rvideo2\nvideo3\n",
    ],
)
def test_list_with_other_columns(tmp_path, content):
    (tmp_path / "list.txt").write_text(content)
    with pytest.raises(UserError, match=r"list.txt, line 1: .* is not one id"):
        listed_ids(tmp_path / "list.txt")


@pytest.mark.parametrize("content", ["", "\n \n"])
def test_empty_list(tmp_path, content):
    (tmp_path / "list.txt").write_text(content)
    with pytest.raises(UserError, match="it lists no videos"):
        listed_ids(tmp_path / "list.txt")


def test_key_that_occurs_twice(tmp_path):
    (tmp_path / "x.json").write_text('{"v_a": {"sentences": []}, "v_b": {}, "v_a": {}}')
    with pytest.raises(UserError, match=r"x.json: 'v_a' occurs twice"):
        json_object(tmp_path / "x.json")


def test_lines_end_with_line_feeds_only(tmp_path):
    (tmp_path / "x.csv").write_bytes("a\u2028b\x85c\r\n\n  \nd".encode())
    lines = [(where.rsplit(", ")[-1], line) for where, line in text_lines(tmp_path / "x.csv")]
    assert lines == [("line 1", "a\u2028b\x85c"), ("line 4", "d")]


@pytest.mark.parametrize(("datatype", "name"), TEXTS)
def test_line_ends_of_old_macs(tmp_path, datatype, name):
    expected = read(datatype, written(datatype, tmp_path))
    path = tmp_path / name
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r"))
    assert read(datatype, tmp_path) == expected


@pytest.mark.parametrize(("datatype", "name"), FILES)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xef\xbb\xbf\n <!DOCTYPE html><html>404</html>\n", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2\n", "a git-lfs pointer"),
        (b"\x1f\x8b\x08\x00\x00", "compressed with gzip"),
        (b"PK\x03\x04\x14", "a zip archive"),
    ],
)
def test_something_else_under_the_name_of_the_file(tmp_path, datatype, name, content, message):
    (written(datatype, tmp_path) / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}: it looks like {message}"):
        read(datatype, tmp_path)


@pytest.mark.parametrize(
    ("rows", "place"),
    [
        ('video1,a dog\nvideo2,a cat\nvideo3,a man\nvideo4,"a" cow\n', "line 5"),
        ('video1,a dog\n\nvideo2,"a" cow\n', "lines 3 to 4"),
        ('video1,a dog\nvideo2,"a cat\nvideo3,a cow\nvideo4,"a man"\n', "lines 3 to 5"),
        ('"a" dog,video1\n', "line 2"),
    ],
)
def test_broken_quotes_are_named_with_their_line(tmp_path, rows, place):
    (tmp_path / "x.csv").write_text("video_id,sentence\n" + rows)
    with pytest.raises(UserError, match=rf"x.csv, {place}: not readable as CSV"):
        list(csv_rows(tmp_path / "x.csv", ("video_id", "sentence")))


def test_blank_rows_do_not_shift_the_lines(tmp_path):
    (tmp_path / "x.csv").write_text('video_id,sentence\n\n\nvideo1,"a\ndog"\nvideo2,a cat\n')
    places = [where for where, _ in csv_rows(tmp_path / "x.csv", ("video_id", "sentence"))]
    assert [place.rsplit(", ")[-1] for place in places] == ["row 1 (line 5)", "row 2 (line 6)"]


def test_csv_with_line_ends_of_old_macs(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"video_id,sentence\rvideo1,a dog\rvideo2,a cat\r")
    rows = [row["sentence"] for _, row in csv_rows(tmp_path / "x.csv", ("sentence",))]
    assert rows == ["a dog", "a cat"]


def test_folder_in_place_of_a_file(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_text(tmp_path)
