"""OpenAI's files: fetched from a real server on this machine, verified, never half there."""

import hashlib
import http.server
import threading
from functools import partial

import pytest

from tvr.models import weights
from tvr.models.weights import OPENAI_SHA256, openai_file, verify_sha256
from tvr.utils.errors import UserError

CONTENT = bytes(range(256)) * 20_000  # 5 MB: several chunks
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME, FILE = "ViT-B/32", "ViT-B-32.pt"


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and counts; a file called `short` ends before its announced length."""

    def do_GET(self):
        self.server.requests.append(self.path)
        if self.server.cut:
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[: len(CONTENT) // 2])
            return
        super().do_GET()

    def log_message(self, *_):
        """Keeps the test output clean."""


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server whose folder holds the file where OpenAI's has it, with the checksum expected."""
    monkeypatch.setitem(OPENAI_SHA256, NAME, SHA256)
    # this machine's proxy settings must not come between the test and 127.0.0.1
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    site = tmp_path / "site"
    (site / SHA256).mkdir(parents=True)
    (site / SHA256 / FILE).write_bytes(CONTENT)
    http_server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Handler, directory=str(site))
    )
    http_server.requests, http_server.cut, http_server.site = [], False, site
    http_server.root = f"http://127.0.0.1:{http_server.server_port}"
    thread = threading.Thread(target=http_server.serve_forever, args=(0.02,))
    thread.start()
    yield http_server
    http_server.shutdown()
    http_server.server_close()
    thread.join()


@pytest.fixture
def folder(tmp_path):
    """Where the weights are to lie."""
    path = tmp_path / "models"
    path.mkdir()
    return path


def test_a_missing_file_is_downloaded_once(server, folder):
    path = openai_file(NAME, folder, server.root)
    assert path == folder / FILE
    assert path.read_bytes() == CONTENT
    assert openai_file(NAME, folder, server.root) == path
    assert server.requests == [f"/{SHA256}/{FILE}"]
    assert list(folder.iterdir()) == [path]


def test_a_download_with_another_checksum_leaves_nothing(server, folder):
    (server.site / SHA256 / FILE).write_bytes(CONTENT[:-1] + b"\x00")
    with pytest.raises(UserError, match=f"what was downloaded.*OpenAI's file has {SHA256}"):
        openai_file(NAME, folder, server.root)
    assert list(folder.iterdir()) == []


def test_an_interrupted_download_leaves_nothing(server, folder):
    server.cut = True
    with pytest.raises(UserError, match=FILE.removesuffix(".pt")):
        openai_file(NAME, folder, server.root)
    assert list(folder.iterdir()) == []
    server.cut = False
    assert openai_file(NAME, folder, server.root).read_bytes() == CONTENT


def test_a_file_that_is_not_there_names_where_to_put_it(server, folder):
    (server.site / SHA256 / FILE).unlink()
    with pytest.raises(UserError, match=f"{folder / FILE} is missing.*{server.root}.*404"):
        openai_file(NAME, folder, server.root)
    assert list(folder.iterdir()) == []


def test_no_server_names_where_to_put_it(folder, server):
    root = server.root
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match=f"{folder / FILE} is missing.*by hand"):
        openai_file(NAME, folder, root)
    assert list(folder.iterdir()) == []


def test_a_damaged_file_is_neither_used_nor_replaced(server, folder):
    (folder / FILE).write_bytes(b"something else")
    with pytest.raises(UserError, match=f"{folder / FILE}: wrong checksum.*Delete the file"):
        openai_file(NAME, folder, server.root)
    assert (folder / FILE).read_bytes() == b"something else"
    assert server.requests == []


def test_verify_reads_the_whole_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    verify_sha256(path, SHA256)
    path.write_bytes(CONTENT + b"\x00")
    with pytest.raises(UserError, match=SHA256):
        verify_sha256(path, SHA256)


def test_the_published_checksums():
    """The address of a file on OpenAI's server holds its checksum, so both must be right."""
    assert {name: value[:8] for name, value in OPENAI_SHA256.items()} == {
        "ViT-B/32": "40d36571",
        "ViT-B/16": "5806e77c",
        "ViT-L/14": "b8cca3fd",
    }
    assert all(len(value) == 64 for value in OPENAI_SHA256.values())
    assert weights.WEIGHTS_DIR.parts[-2:] == ("tvr", "models")
