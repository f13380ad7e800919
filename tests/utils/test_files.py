import csv
import errno
import os
from pathlib import Path

import pytest

from tvr.utils.errors import LocalError
from tvr.utils.files import replacing, write_csv


def test_the_file_appears_once_it_is_complete(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("old")
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["list.csv"]


def interrupt(path):
    with replacing(path) as file:
        file.write(b"half of the")
        raise KeyboardInterrupt


def test_an_interrupted_write_keeps_the_earlier_file(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        interrupt(path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["list.csv"]


def test_what_cannot_be_written_is_the_users_to_know(tmp_path):
    (tmp_path / "list.csv").mkdir()
    for path in (tmp_path / "list.csv", tmp_path / "nowhere" / "list.csv"):
        with pytest.raises(LocalError, match=r"list\.csv: cannot be written \("), replacing(path):
            pass
    assert os.listdir(tmp_path) == ["list.csv"]


@pytest.mark.parametrize("name", ["list.csv/page.html", "list.csv/x/y", ".", "/", "n" * 256])
def test_a_place_for_no_file_is_named(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.csv").write_text("old")
    with (
        pytest.raises(LocalError, match=r": cannot be written \([^)]+\)\.$"),
        replacing(Path(name)),
    ):
        pass
    assert os.listdir(tmp_path) == ["list.csv"]
    assert (tmp_path / "list.csv").read_text() == "old"


@pytest.mark.parametrize("name", ["n" * 250, "\u8996" * 85])
def test_any_name_that_a_disk_takes_can_be_written(tmp_path, name):
    with replacing(tmp_path / name) as file:
        file.write(b"new")
    assert (tmp_path / name).read_bytes() == b"new"
    assert os.listdir(tmp_path) == [name]


def fill_the_disk(path):
    with replacing(path) as file:
        file.write(b"half of the")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_earlier_file_is_mentioned_where_there_is_one(tmp_path):
    path = tmp_path / "list.csv"
    with pytest.raises(LocalError, match=r"\(No space left on device\)\.$"):
        fill_the_disk(path)
    path.write_text("old")
    with pytest.raises(LocalError, match=r"device\); an earlier file of that name was left as"):
        fill_the_disk(path)
    assert path.read_text() == "old"


def test_a_csv_is_read_back_as_it_was_written(tmp_path):
    rows = [("path", "problem"), ("a, b.mp4", 'says "no"'), ("line\nfeed", "\u8996 \U0001f415")]
    write_csv(tmp_path / "list.csv", rows)
    with (tmp_path / "list.csv").open(newline="", encoding="utf-8") as file:
        assert [tuple(row) for row in csv.reader(file)] == rows
    assert (tmp_path / "list.csv").read_bytes().startswith(b'path,problem\n"a, b.mp4","says')


def test_names_on_disk_are_in_a_csv_byte_for_byte(tmp_path):
    name = b"\x80\xfc\xff.mp4"
    write_csv(tmp_path / "list.csv", [(os.fsdecode(name),)])
    assert (tmp_path / "list.csv").read_bytes() == name + b"\n"


def test_half_a_surrogate_pair_in_a_csv_becomes_a_replacement_character(tmp_path):
    halves = ("\ud800", "\udbff", "\udc00", "\udc7f", "\udd00", "\udfff")
    write_csv(tmp_path / "list.csv", [halves])
    written = (tmp_path / "list.csv").read_text(encoding="utf-8")
    assert written == ",".join("\ufffd" * len(halves)) + "\n"


def test_a_csv_that_cannot_be_written_is_the_users_to_know(tmp_path):
    with pytest.raises(LocalError, match=r"list\.csv: cannot be written \("):
        write_csv(tmp_path / "nowhere" / "list.csv", [("new",)])
