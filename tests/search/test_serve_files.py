"""Which files the server sends, and that no address leads to another."""

import os
from contextlib import contextmanager
from io import BytesIO

import pytest
from html_document import Document
from PIL import Image
from server_process import ask, fetch

from tvr.search.serve import as_video, locate


def row_of(engine, name):
    """The row of the video with this file name."""
    return next(row for row in range(engine.gallery) if engine.path(row).endswith(name))


def test_previews_move_and_stills_do_not(client, engine):
    for row in range(engine.gallery):
        moving, still = client.get(f"/preview/{row}.webp"), client.get(f"/still/{row}.webp")
        assert moving.data == engine.preview(row)
        assert Image.open(BytesIO(moving.data)).n_frames > 1
        assert getattr(Image.open(BytesIO(still.data)), "n_frames", 1) == 1
        for answer in (moving, still):
            again = client.get(
                answer.request.path, headers={"If-None-Match": answer.headers["ETag"]}
            )
            assert (again.status_code, again.data) == (304, b"")


@pytest.mark.parametrize("kind", ["/preview/{}.webp", "/still/{}.webp", "/video/{}"])
@pytest.mark.parametrize(
    "row", [-1, "0x0", "1.5", "", "a", 6, 99, 2**31, 2**63, 10**50, "9" * 5000]
)
def test_a_row_that_is_not_in_the_index_is_not_found(client, engine, kind, row):
    assert engine.gallery <= 6
    answer = client.get(kind.format(row))
    assert answer.status_code == 404
    assert len(answer.text) < 8000


def test_a_video_is_sent_whole_and_in_ranges(client, engine):
    for row in range(engine.gallery):
        file = (engine.folder / engine.path(row)).read_bytes()
        whole = client.get(f"/video/{row}")
        assert (whole.status_code, whole.data, whole.mimetype) == (200, file, "video/mp4")
        assert whole.headers["Accept-Ranges"] == "bytes"
        assert client.head(f"/video/{row}").content_length == len(file)
        for asked, sent in (("10-99", file[10:100]), ("50-", file[50:]), ("-7", file[-7:])):
            part = client.get(f"/video/{row}", headers={"Range": f"bytes={asked}"})
            assert (part.status_code, part.data) == (206, sent)
            start = file.index(sent) if asked == "10-99" else len(file) - len(sent)
            end = start + len(sent) - 1
            assert part.headers["Content-Range"] == f"bytes {start}-{end}/{len(file)}"
        beyond = client.get(f"/video/{row}", headers={"Range": f"bytes={len(file)}-"})
        assert beyond.status_code == 416
        assert beyond.headers["Content-Range"] == f"bytes */{len(file)}"
        known = client.get(f"/video/{row}", headers={"If-None-Match": whole.headers["ETag"]})
        assert known.status_code == 304


@contextmanager
def instead(engine, row):
    """The path of a video that is put aside, free for something else."""
    path = engine.folder / engine.path(row)
    aside = path.with_name("aside")
    path.rename(aside)
    try:
        yield path
    finally:
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        path.unlink(missing_ok=True)
        aside.rename(path)


def is_not_sent(client, row, reason):
    """The video is in the results with the reason, and is not found."""
    answer = ask(client, q="red")
    assert answer.status_code == 200
    page = Document(answer.text)
    assert page.text.count(reason) == 1
    assert len(page.all("li")) == len(page.all("a", **{"class": "name"})) + 1
    assert not page.all("a", href=f"/video/{row}")
    found = {hit["row"]: hit["video"] for hit in ask(client, "/api/search", q="red").json["hits"]}
    assert [row for row, video in found.items() if video is None] == [row]
    refused = client.get(f"/video/{row}")
    assert refused.status_code == 404
    assert reason in Document(refused.text).text
    return True


def test_a_video_that_is_gone_is_marked(client, engine):
    row = row_of(engine, "plain.mp4")
    with instead(engine, row):
        assert is_not_sent(client, row, "file is gone")
    assert client.get(f"/video/{row}").status_code == 200


def test_a_link_out_of_the_folder_is_not_followed(client, engine, tmp_path):
    row = row_of(engine, "plain.mp4")
    (tmp_path / "secret.mp4").write_bytes(b"secret")
    with instead(engine, row) as path:
        path.symlink_to(tmp_path / "secret.mp4")
        assert is_not_sent(client, row, "file lies outside the indexed folder")
        path.unlink()
        path.symlink_to(path.name)
        assert is_not_sent(client, row, "file is gone")


def test_a_link_inside_the_folder_is_followed(client, engine):
    row = row_of(engine, "plain.mp4")
    with instead(engine, row) as path:
        path.symlink_to("aside")
        assert client.get(f"/video/{row}").data == path.read_bytes()


def test_only_files_are_sent(client, engine):
    row = row_of(engine, "plain.mp4")
    with instead(engine, row) as path:
        path.mkdir()
        assert is_not_sent(client, row, "no longer a file")
        path.rmdir()
        os.mkfifo(path)
        assert is_not_sent(client, row, "no longer a file")


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../secret", "in/../../secret", "in/out/secret", "in/\0", "", "in"]
)
def test_a_name_in_the_index_leads_nowhere_else(tmp_path, name):
    folder = tmp_path / "folder"
    (folder / "in").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (folder / "in" / "out").symlink_to(tmp_path)
    with pytest.raises(FileNotFoundError):
        locate(folder, name)


def test_a_file_that_vanishes_meanwhile_is_not_found(app, tmp_path):
    with app.test_request_context(), pytest.raises(FileNotFoundError, match="cannot be read"):
        as_video(tmp_path / "gone.mp4", "gone.mp4")


@pytest.mark.parametrize("name", ["x.html", "x.svg", "x.js", "x", "x.mp4.html"])
def test_what_is_no_video_by_its_name_is_no_page_either(app, tmp_path, name):
    (tmp_path / name).write_text("<script>alert(1)</script>")
    with app.test_request_context():
        assert as_video(tmp_path / name, name).mimetype == "application/octet-stream"


UP = ["..", "%2e%2e", "%2E.", "..%2f..", "..%5c..", "%252e%252e", "....//", "..;", "%c0%ae%c0%ae"]


@pytest.mark.parametrize(
    "start", ["/video/", "/video/0/", "/preview/", "/static/", "/", "//", "/still/"]
)
@pytest.mark.parametrize("up", UP)
def test_no_path_leads_to_another_file(served, start, up):
    for target in (
        "etc/passwd",
        "serve.py",
        "tvr/search/serve.py",
        "plain.mp4",
        "templates/search.html",
    ):
        for path in (f"{start}{up}/{target}", f"{start}{up}/{up}/{up}/{up}/{up}/{up}/{target}"):
            status, body = fetch(served, path)
            assert status in (308, 404)
            assert b"root:" not in body
            assert b"def " not in body
            assert b"{%" not in body


@pytest.mark.parametrize(
    "path",
    [
        "/video//etc/passwd",
        "/static//etc/passwd",
        "/video/0%00",
        "/static/%00",
        "/static/",
        "/video/%2fetc%2fpasswd",
        "/templates/search.html",
        "/serve.py",
        "/favicon.ico",
    ],
)
def test_only_what_is_meant_to_be_there_is(served, path):
    status, body = fetch(served, path)
    assert status in (308, 404)
    assert b"root:" not in body
