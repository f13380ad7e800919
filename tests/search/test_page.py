"""The page of results as a document of its own."""

import re
from base64 import b64decode
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
from html_document import Document
from PIL import Image

from tvr.search.engine import Answer, Hit
from tvr.search.page import Card, results_page

HOSTILE = '</title><script>alert("1")</script>\'"><img src=x onerror=alert(2)>&lt;{{ 7 * 7 }}'
FACTS = {"model": "checkpoint_last.pt", "made": "2030-01-02"}


def preview(row):
    """An animated WebP of four plain frames whose grey tells the row."""
    frames = [Image.new("RGB", (160, 90), (10 * row + 60 * step,) * 3) for step in range(4)]
    file = BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:], duration=100, loop=0)
    return file.getvalue()


def hit(row=0, path="a/b/clip.mp4", rank=1, first_rank=7):
    return Hit(row, path, 4.25, 81_234, 0.34567, rank, 0.23456, first_rank)


def answer(query="a red circle", hits=None, candidates=256, gallery=1234):
    return Answer(query, [hit()] if hits is None else hits, candidates, gallery, 0.0312)


def document(*answers, facts=FACTS):
    return Document(results_page(list(answers), preview, facts))


def decoded(address):
    assert address.startswith("data:image/webp;base64,")
    return Image.open(BytesIO(b64decode(address.partition(",")[2], validate=True)))


def test_it_tells_everything_about_a_hit():
    text = document(answer()).text
    for part in (
        *("a red circle", "a/b/", "clip.mp4", "4.2 s", "81.2 kB", "0.3457", "0.2346"),
        *("256 of 1,234 videos scored exactly", "0.03 s", "Rank 1, in the first stage 7"),
        *("model", "checkpoint_last.pt", "made", "2030-01-02"),
    ):
        assert part in text


@pytest.mark.parametrize(
    ("rank", "first_rank", "shown"),
    [
        *((1, 7, "1 ← 7 ▲ 6 Rank"), (3, 3, "3 ← 3 Rank"), (5, 2, "5 ← 2 ▼ 3 Rank")),
        (10, 1204, "10 ← 1,204 ▲ 1,194 Rank"),
    ],
)
def test_it_shows_how_the_second_stage_moved_a_video(rank, first_rank, shown):
    assert shown in document(answer(hits=[hit(rank=rank, first_rank=first_rank)])).text


@pytest.mark.parametrize(
    ("candidates", "gallery", "shown"),
    [
        (256, 1234, "256 of 1,234 videos scored exactly,"),
        (1234, 1234, "All 1,234 videos scored exactly,"),
        (1, 1, "The only video scored exactly,"),
    ],
)
def test_it_says_how_many_were_scored(candidates, gallery, shown):
    assert shown in document(answer(candidates=candidates, gallery=gallery)).text


def test_the_pictures_are_inside_and_move_or_stand_still():
    hits = [hit(row, f"{row}.mp4", row + 1, row + 1) for row in range(3)]
    page = document(answer(hits=hits))
    moving, still = (page.all("img", **{"class": kind}) for kind in ("moving", "still"))
    assert [picture["alt"] for picture in moving] == [f"Preview of {row}.mp4" for row in range(3)]
    for row in range(3):
        animated, standing = decoded(moving[row]["src"]), decoded(still[row]["src"])
        assert (animated.n_frames, getattr(standing, "n_frames", 1)) == (4, 1)
        assert animated.size == standing.size
        first = np.asarray(standing.convert("L"), dtype=int)
        assert np.abs(first - 10 * row).max() <= 3


def test_a_video_without_preview_says_so():
    page = Document(results_page([answer()], lambda row: b"", FACTS))
    assert not page.all("img")
    assert "no preview clip.mp4" in page.text


def test_nothing_is_loaded_and_nothing_is_run():
    page = results_page([answer(), answer("two")], preview, FACTS)
    found = Document(page)
    tags = {tag for tag, _ in found.elements}
    assert tags.isdisjoint({"script", "link", "iframe", "object", "embed", "base", "form", "video"})
    for tag, attributes in found.elements:
        assert not any(name.startswith("on") for name in attributes), tag
        for name in {"src", "href", "srcset", "action"} & attributes.keys():
            assert attributes[name].startswith(("data:image/webp;base64,", "#")), tag
    assert re.search(r"@import|url\(", page) is None
    policy = found.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@pytest.mark.parametrize("facts", [FACTS, {}])
@pytest.mark.parametrize("queries", [["one"], ["one", "two", "three"]])
@pytest.mark.parametrize("hits", [[], [hit(), hit(1, "top.mp4", 2, 1)]])
def test_its_elements_are_closed_and_its_ids_are_its_own(facts, queries, hits):
    page = results_page([answer(query, hits) for query in queries], preview, facts)
    assert page.startswith("<!DOCTYPE html>\n")
    found = Document(page)
    assert found.all("html") == [{"lang": "en"}]
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in found.elements:
        assert attributes.get("aria-labelledby", ids[0]) in ids
        assert attributes.get("href", "#" + ids[0])[1:] in ids
    titles = [tag for tag, _ in found.elements if re.fullmatch("h[1-6]", tag)]
    levels = [int(title[1]) for title in titles]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))


def test_several_queries_can_be_reached_from_the_top():
    found = document(answer("one"), answer("two"))
    assert [link["href"] for link in found.all("a")] == ["#query-1", "#query-2"]
    assert not document(answer("one")).all("nav")


def test_html_in_texts_stays_text():
    harmless = document(answer("q", [hit(path="f/n")]), facts={"a": "b"})
    found = document(answer(HOSTILE, [hit(path=f"{HOSTILE}/{HOSTILE}")]), facts={HOSTILE: HOSTILE})
    assert [tag for tag, _ in found.elements] == [tag for tag, _ in harmless.elements]
    # title, heading, folders and name, the last with a closing tag's slashes, and a fact
    assert found.text.count(HOSTILE) >= 5
    assert "49" not in found.text


@pytest.mark.parametrize(
    ("path", "shown"),
    [("caf\udce9.mp4", "caf\ufffd.mp4"), ("a\nb\x00\x1b[31m.mp4", "a\ufffdb\ufffd\ufffd[31m.mp4")],
)
def test_what_html_may_not_hold_is_replaced(path, shown):
    page = results_page([answer(path, [hit(path=path)])], preview, {"folder": path})
    assert Document(page.encode("utf-8").decode("utf-8")).text.count(shown) >= 4
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", page)


@pytest.mark.parametrize(
    ("path", "folders", "name"),
    [("a.mp4", "", "a.mp4"), ("a/b.mp4", "a/", "b.mp4"), ("x/x/x", "x/x/", "x")],
)
def test_a_path_is_its_folders_and_its_name(path, folders, name):
    card = Card(hit(path=path))
    assert (card.folders, card.name) == (folders, name)
