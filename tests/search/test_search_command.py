"""`python -m tvr.search` as a user calls it."""

import json
import os
import shutil
import sys

import pytest
from programs import run_program
from small_index import clip, copy, write_checkpoint

from tvr.search.__main__ import main
from tvr.search.shards import checksum

PROGRAM = (sys.executable, "-m", "tvr.search")
HOSTILE = (b"new\nline.mp4", b"\x1b[31mred.mp4", b"bad\xff.mp4", "\u202egpj.mp4".encode())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Videos of ordinary and of hostile names, a checkpoint, and the index."""
    folder = tmp_path_factory.mktemp("made")
    for seconds in (1, 2, 3):
        clip(folder / "videos" / f"{seconds}.mp4", seconds)
    copy(folder / "videos" / "1.mp4", *HOSTILE)
    (folder / "videos" / "broken\x1b[2J.mp4").write_text("<html>")
    write_checkpoint(folder / "model.pt")
    flags = ("--videos", folder / "videos", "--model", folder / "model.pt", "--workers", 2)
    done = run_program(*PROGRAM, "index", *flags, "--index", folder / "index", cwd=None)
    assert done.returncode == 0, done.stderr
    assert "7 videos, 7 of them encoded now; 1 unreadable, listed in" in done.stdout
    assert r"unreadable: broken\x1b[2J.mp4: the video file" in done.stderr
    assert "\x1b[2J" not in done.stdout
    return folder


@pytest.fixture
def call(capsys):
    """The command in this process; its exit code and what it printed."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def test_the_table_shows_every_name_on_one_line(made, call):
    code, out, err = call("query", "--index", made / "index", "a \x1b[1mred circle", "noise")
    assert (code, err) == (0, "")
    first, second = out.split("\n\n")
    lines = first.splitlines()
    assert lines[0] == r"a \x1b[1mred circle"
    assert lines[1].startswith("7 of 7 videos scored in ")
    assert lines[2].split() == [
        "rank",
        "score",
        "first",
        "rank",
        "first",
        "score",
        "seconds",
        "path",
    ]
    assert [line.split()[0] for line in lines[3:]] == list("1234567")
    for name in (r"new\nline.mp4", r"\x1b[31mred.mp4", r"bad\udcff.mp4", r"\u202egpj.mp4", "3.mp4"):
        assert sum(line.endswith(f"  {name}") for line in lines) == 1, name
    assert second.startswith("noise\n")
    assert all(character.isprintable() or character == "\n" for character in out)


def test_json_is_all_that_is_printed(made):
    flags = ("--index", made / "index", "--topk", 5, "--json", "--device", "cpu")
    done = run_program(*PROGRAM, "query", *flags, "noise", "a caf\u00e9", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert [answer["query"] for answer in answers] == ["noise", "a caf\u00e9"]
    for answer in answers:
        assert (answer["candidates"], answer["gallery"]) == (7, 7)
        assert answer["folder"] == str(made / "videos")
        assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3, 4, 5]
        for hit in answer["hits"]:
            assert hit["there"]
            assert os.path.getsize(os.path.join(answer["folder"], hit["path"])) == hit["size"]


def test_a_video_deleted_since_is_marked(made, call, tmp_path):
    shutil.copytree(made, tmp_path / "copy")
    videos, index = tmp_path / "copy/videos", tmp_path / "copy/index"
    manifest = index / "manifest.json"
    content = json.loads(manifest.read_text().replace(str(made / "videos"), str(videos)))
    del content["checksum"]
    content["checksum"] = checksum(json.dumps(content).encode())
    manifest.write_text(json.dumps(content))
    (videos / "3.mp4").unlink()
    _, out, _ = call("query", "--index", index, "noise")
    assert out.count("(no longer there)") == 1
    assert "3.mp4 (no longer there)" in out
    _, out, _ = call("query", "--index", index, "noise", "--json")
    assert [h["path"] for h in json.loads(out)[0]["hits"] if not h["there"]] == ["3.mp4"]


def test_queries_from_a_file(made, call, tmp_path):
    path = tmp_path / "queries.txt"
    path.write_bytes("\ufeffa caf\u00e9\r\n\r\n  noise \n".encode())
    _, out, _ = call("query", "--index", made / "index", "first", "--file", path, "--json")
    assert [answer["query"] for answer in json.loads(out)] == ["first", "a caf\u00e9", "noise"]


def test_exact_and_staged_agree(made, call):
    flags = ("query", "--index", made / "index", "noise", "--json")
    staged, exact = (json.loads(call(*flags, *more)[1]) for more in ((), ("--exact",)))
    # some of the clips are copies, whose order rounding decides: so by path
    scores = [{hit["path"]: hit["score"] for hit in both[0]["hits"]} for both in (staged, exact)]
    assert len(scores[0]) > 3
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_a_page_of_the_results(made, call, tmp_path):
    pytest.importorskip("tvr.search.page")
    page = tmp_path / "page.html"
    code, _, err = call("query", "--index", made / "index", "a red circle", "--html", page)
    assert (code, err) == (0, "")
    assert "a red circle" in page.read_text()
    code, _, err = call(
        "query", "--index", made / "index", "x", "--html", tmp_path / "no/page.html"
    )
    assert code == 2
    assert "no/page.html: cannot be written" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["query", "--index", "INDEX"], "no query"),
        (["query", "--index", "INDEX", " "], "query is empty"),
        (["query", "--index", "INDEX", "w" * 2001], "2,001 characters"),
        (["query", "--index", "INDEX", "x", "--topk", "0"], "at least 1"),
        (["query", "--index", "INDEX", "x", "--candidates", "many"], "many"),
        (["query", "--index", "INDEX/gone", "x"], "no finished index"),
        (["query", "--index", "INDEX", "x", "--file", "gone.txt"], "--file gone.txt"),
        (["query", "--index", "INDEX", "x", "--model", "gone.pt"], "--model gone.pt"),
        (["query", "--index", "INDEX", "x", "--model", "tiny"], "is not the model"),
        (["serve", "--index", "INDEX", "--port", "70000"], "and 65535"),
        (["serve", "--index", "INDEX", "--host", "0.0.0.0"], "--host"),
        (["query", "--index", "INDEX", "x", "--html", "/dev/null/x.html"], "/dev/null/x.html: can"),
        (["index", "--videos", "gone", "--model", "tiny", "--index", "new"], "--videos gone"),
        (["index", "--videos", ".", "--model", "gone.pt", "--index", "new"], "--model gone.pt"),
        (["index", "--videos", ".", "--model", "tiny", "--index", "new", "--temp", "0"], "--temp"),
        (["index", "--videos", ".", "--model", "tiny", "--index", "new", "--workers", "-1"], "-1"),
        (["index", "--videos", ".", "--model", "tiny", "--index", "new", "--lr", "1"], "--lr"),
        ([], "command"),
    ],
)
def test_mistakes(made, call, arguments, message):
    code, out, err = call(*(a.replace("INDEX", str(made / "index")) for a in arguments))
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("error: ")


def test_an_error_shows_names_as_escapes(call, tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "broken\x1b[2J\n.mp4").write_text("<html>")
    flags = ("--videos", tmp_path / "videos", "--model", "tiny", "--workers", 0)
    code, _, err = call("index", *flags, "--index", tmp_path / "index")
    assert code == 2
    assert r"broken\x1b[2J" in err
    assert "\x1b" not in err


def test_a_file_of_queries_that_cannot_be_answered(made, call, tmp_path):
    path = tmp_path / "queries.txt"
    path.write_bytes(b"fine\ncaf\xe9\n")
    code, _, err = call("query", "--index", made / "index", "--file", path)
    assert code == 2
    assert f"{path}, line 2: not UTF-8" in err
    path.write_text("\n \n")
    code, _, err = call("query", "--index", made / "index", "--file", path)
    assert "holds no query" in err
    path.write_text("fine\n\n" + "w" * 2001 + "\n")
    code, _, err = call("query", "--index", made / "index", "--file", path)
    assert code == 2
    assert f"{path}, line 3: has 2,001 characters; give at most 2,000" in err
