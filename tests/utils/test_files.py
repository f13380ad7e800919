import os

import pytest

from tvr.utils.errors import LocalError
from tvr.utils.files import replacing


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
