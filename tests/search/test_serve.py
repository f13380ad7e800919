"""The search in the browser: what is answered, and what is not."""

import json
import re
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from urllib.parse import quote

import pytest
from html_document import Document
from programs import run_program
from server_process import ask, fetch, serving

from tvr.search.engine import MOST_CHARACTERS
from tvr.search.serve import create_app, serve
from tvr.utils.errors import UserError

QUERIES = ["a red circle", "noise", "ünïcode 視頻 🎬", "<b>bold</b> & 'quoted'", "x" * 300]
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
PAGES = ["/", "/?q=red", "/api/search?q=red", "/preview/0.webp", "/still/0.webp", "/video/0"]
PAGES += ["/static/style.css", "/static/keys.js", "/static/icon.svg"]


def agrees(found, answer):
    """Whether JSON holds the engine's answer; its time is its own, and last digits may differ."""
    expected = asdict(answer)
    del expected["seconds"]
    for hit in expected["hits"]:
        for name in ("score", "first_score"):
            hit[name] = pytest.approx(hit[name], abs=1e-5)
    hits = [{name: hit[name] for name in asdict(answer.hits[0])} for hit in found["hits"]]
    assert {name: found[name] for name in expected} | {"hits": hits} == expected
    return True


def test_the_first_page_asks_and_tells_about_the_index(client, engine):
    answer = client.get("/")
    page = Document(answer.text)
    assert answer.status_code == 200
    assert [box["name"] for box in page.all("input")] == ["q", "topk", "candidates", "exact"]
    assert not page.all("li")
    for name, fact in engine.describe().items():
        assert name in page.text
        assert fact in page.text


@pytest.mark.parametrize("query", QUERIES)
def test_a_page_of_results_has_the_engines_hits_in_order(client, engine, query):
    page = Document(ask(client, q=query).text)
    (expected,) = engine.search([query])
    assert page.all("input", name="q")[0]["value"] == query
    assert query in page.text
    links = [link["href"] for link in page.all("a", **{"class": "name"})]
    assert links == [f"/video/{hit.row}" for hit in expected.hits]
    shown = re.findall(r"Rank (\d+), in the first stage (\d+)", page.text)
    assert shown == [(str(hit.rank), str(hit.first_rank)) for hit in expected.hits]
    pictures = [picture["src"] for picture in page.all("img", **{"class": "moving"})]
    assert pictures == [f"/preview/{hit.row}.webp" for hit in expected.hits]


@pytest.mark.parametrize(
    "options",
    [
        *({}, {"topk": 2}, {"candidates": 3}, {"exact": True}),
        *({"topk": 3, "candidates": 4, "exact": True}, {"topk": 100, "candidates": 10_000}),
    ],
)
def test_json_is_the_engines_answer(client, engine, options):
    for query in QUERIES:
        asked = {name: int(value) for name, value in options.items()}
        answer = ask(client, "/api/search", q=query, **asked)
        (expected,) = engine.search([query], **options)
        assert answer.mimetype == "application/json"
        assert agrees(answer.json, expected)


def test_json_says_where_the_pictures_and_videos_are(client):
    for hit in ask(client, "/api/search", q="red").json["hits"]:
        assert client.get(hit["preview"]).mimetype == "image/webp"
        assert client.get(hit["video"]).content_length == hit["size"]


def test_the_options_asked_for_stay_in_the_form(client):
    page = Document(ask(client, q="red", topk=3, candidates=77, exact=1).text)
    assert page.all("input", name="topk")[0]["value"] == "3"
    assert page.all("input", name="candidates")[0]["value"] == "77"
    assert "checked" in page.all("input", name="exact")[0]
    assert "open" in page.all("details")[0]
    assert "open" not in Document(ask(client, q="red").text).all("details")[0]


BAD = [
    *(("topk", text) for text in ("0", "-1", "101", "five", "", "1.5", "1e1", "1_0", " 5", "٣")),
    *(("candidates", text) for text in ("0", "10001", "1" * 5000, "0x10", "\x00")),
    *(("exact", text) for text in ("2", "yes", "", "true", "<b>")),
]


@pytest.mark.parametrize(("name", "text"), BAD)
def test_a_bad_parameter_is_named(client, name, text):
    answer = ask(client, q="red", **{name: text})
    page = Document(answer.text)
    assert answer.status_code == 400
    assert f"{name}=" in page.text
    assert len(answer.text) < 6000
    assert page.all("input", name="q")[0]["value"] == "red"
    told = ask(client, "/api/search", q="red", **{name: text})
    assert (told.status_code, list(told.json)) == (400, ["error"])
    assert told.json["error"].startswith(f"{name}=")


@pytest.mark.parametrize("query", ["", " \t ", "x" * (MOST_CHARACTERS + 1), "y" * 100_000])
def test_a_bad_query_is_explained(client, engine, query):
    with pytest.raises(ValueError, match=r"\w") as raised:
        engine.search([query])
    answer = ask(client, q=query)
    page = Document(answer.text)
    assert answer.status_code == 400
    assert " ".join(str(raised.value).split()) in page.text
    assert len(answer.text) < 3 * MOST_CHARACTERS + 6000
    assert ask(client, "/api/search", q=query).json == {"error": str(raised.value)}


def test_the_longest_query_is_answered(client):
    assert ask(client, q="é" * MOST_CHARACTERS).status_code == 200


def test_json_without_a_query_is_refused(client):
    assert client.get("/api/search").status_code == 400


def test_html_in_queries_and_file_names_stays_text(client):
    plain = Document(ask(client, q="plain").text)
    hostile = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 4409 }}'
    page = Document(ask(client, q=hostile).text)
    assert hostile in page.text
    assert "30863" not in page.text
    assert "<img src=x onerror=alert(1)>.mp4" in page.text
    for found in (plain, page):
        assert {tag for tag, _ in found.elements}.isdisjoint({"iframe", "style"})
        assert [script["src"] for script in found.all("script")] == ["/static/keys.js"]
        assert not any(name.startswith("on") for _, names in found.elements for name in names)


def test_a_query_that_is_no_text_is_shown_as_text(client):
    answer = client.get("/?q=caf%E9%00%1b%ed%a0%80")
    assert answer.status_code == 200
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", answer.text)


@pytest.mark.parametrize("address", [*PAGES, "/nowhere", "/?q=", "/video/99", "/api/search"])
def test_every_answer_has_the_strict_headers(client, address):
    for answer in (client.get(address), client.head(address), client.post(address)):
        assert HEADERS.items() <= dict(answer.headers).items()
        policy = answer.headers["Content-Security-Policy"].split("; ")
        assert policy[0] == "default-src 'none'"
        assert all(part.split(" ", 1)[1] in ("'none'", "'self'") for part in policy)


@pytest.mark.parametrize("address", PAGES)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_only_get_is_allowed(client, address, method):
    answer = client.open(address, method=method)
    assert answer.status_code == 405
    assert answer.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("address", PAGES)
@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example"),
        *("localhost@evil.example", "0.0.0.0", "[::1]:8000", "127.0.0.1:x", ""),
    ],
)
def test_another_hosts_name_is_refused(client, engine, address, host):
    answer = client.get(address, headers={"Host": host})
    assert answer.status_code == 400
    assert str(engine.folder) not in answer.text
    assert not any(fact in answer.text for fact in engine.describe().values() if len(fact) > 3)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "localhost", "localhost:65535"])
def test_this_machines_names_are_served(client, host):
    assert client.get("/", headers={"Host": host}).status_code == 200


def test_an_error_inside_is_short_and_without_traceback(engine_with_damaged_previews):
    client = create_app(engine_with_damaged_previews).test_client()
    answer = client.get("/still/0.webp")
    assert answer.status_code == 500
    assert "Internal Server Error" in Document(answer.text).text
    assert "Traceback" not in answer.text
    assert "PIL" not in answer.text
    assert len(answer.text) < 4000
    assert HEADERS.items() <= dict(answer.headers).items()


def test_queries_at_once_are_answered_as_one_after_the_other(served, engine):
    queries = [f"{query} {number}" for number in range(8) for query in QUERIES]
    expected = [engine.search([query], topk=4)[0] for query in queries]

    def get(query):
        status, body = fetch(served, "/api/search?topk=4&q=" + quote(query))
        assert status == 200
        return json.loads(body)

    with ThreadPoolExecutor(8) as pool:
        assert all(map(agrees, pool.map(get, queries), expected))


def test_pages_pictures_and_videos_at_once(served, engine):
    paths = [
        path
        for row in range(engine.gallery)
        for path in (f"/preview/{row}.webp", f"/video/{row}", "/?q=red")
    ] * 5
    with ThreadPoolExecutor(16) as pool:
        for path, (status, body) in zip(
            paths, pool.map(lambda p: fetch(served, p), paths), strict=True
        ):
            assert status == 200
            if path.startswith("/video/"):
                row = int(path.split("/")[2])
                assert body == (engine.folder / engine.path(row)).read_bytes()
            elif path.startswith("/preview/"):
                assert body == engine.preview(int(re.findall(r"\d+", path)[0]))


def test_a_port_in_use_is_named(served_index):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_program(
            *(sys.executable, "-m", "tvr.search", "serve", "--index", served_index, "--port", port)
        )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: --port {port}: Address already in use")


@pytest.mark.parametrize("port", [65536, -1])
def test_a_port_that_cannot_be_had_is_named(engine, port):
    with pytest.raises(UserError, match=rf"^--port {port}: .*[^.]\. Name another"):
        serve(engine, port)


@pytest.mark.parametrize("address", PAGES)
def test_other_sites_may_link_here_and_no_more(client, address):
    for site, mode, status in (
        ("cross-site", "navigate", 200),
        ("cross-site", "no-cors", 403),
        ("cross-site", "cors", 403),
        ("same-origin", "no-cors", 200),
        ("none", "navigate", 200),
    ):
        answer = client.get(address, headers={"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode})
        assert answer.status_code == status
        if status == 403:
            assert b"RIFF" not in answer.data
            assert b"plain.mp4" not in answer.data


def test_control_c_ends_it_cleanly(served_index):
    with serving(served_index) as address:
        assert address.startswith("http://127.0.0.1:")
