"""The search in a real browser, from a real server process and from a file."""

from urllib.parse import quote

import pytest
from browsing import PHONE, WIDE, a_page, obstacles, opened, overflow, widths
from playwright.sync_api import expect
from server_process import serving

from tvr.search.page import results_page

QUERY = "a red circle moves"


@pytest.fixture(scope="module")
def address(served_index):
    with serving(served_index) as found:
        yield found


@pytest.fixture
def page(browser):
    with opened(browser) as found:
        yield found


@pytest.fixture(scope="module")
def document(engine, tmp_path_factory):
    """The address of a page of results that stands on its own, as a file."""
    path = tmp_path_factory.mktemp("page") / "results.html"
    answers = engine.search([QUERY, "<script>alert(1)</script>"])
    path.write_text(results_page(answers, engine.preview, engine.describe()), "utf-8")
    return path.as_uri()


def search_for(page, address, query=QUERY):
    """Type a query into the first page, and press Enter."""
    page.goto(address)
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type(query)
    page.keyboard.press("Enter")
    page.wait_for_url("**/?q=**")


def focused(page):
    """The place of the focused result from 0, or the id of what else has the focus."""
    return page.evaluate(
        """() => {
        const at = [...document.querySelectorAll(".name")].indexOf(document.activeElement);
        return at < 0 ? document.activeElement.id : at;
        }"""
    )


def test_a_typed_query_gives_results_with_pictures(page, address, engine):
    search_for(page, address)
    (answer,) = engine.search([QUERY])
    assert page.title() == f"{QUERY} – Video search"
    assert page.input_value("#query") == QUERY
    addresses = page.eval_on_selector_all(".name", "all => all.map(a => a.getAttribute('href'))")
    assert addresses == [f"/video/{hit.row}" for hit in answer.hits]
    assert all(0 < width <= 160 for width in widths(page, ".moving"))
    assert len(widths(page, ".moving")) == engine.gallery


def test_previews_stop_when_asked_to(page, address):
    search_for(page, address)
    expect(page.locator(".still:visible")).to_have_count(0)
    page.get_by_label("Moving previews").uncheck()
    expect(page.locator(".moving:visible")).to_have_count(0)
    assert all(width > 0 for width in widths(page, ".still"))


@pytest.mark.parametrize("where", ["server", "file"])
def test_previews_stand_still_for_who_prefers_that(browser, address, document, where):
    with opened(browser, reduced_motion="reduce") as page:
        page.goto(document if where == "file" else f"{address}?q=red")
        expect(page.locator(".moving:visible")).to_have_count(0)
        expect(page.get_by_label("Moving previews")).to_be_hidden()
        assert all(width > 0 for width in widths(page, ".still"))


def test_the_keyboard_moves_between_results(page, address, engine):
    search_for(page, address)
    last = engine.gallery - 1
    page.keyboard.press("/")
    assert focused(page) == "query"
    steps = [("ArrowDown", 0), ("j", 1), ("ArrowDown", 2), ("k", 1), ("ArrowUp", 0)]
    steps += [("ArrowUp", "query"), ("ArrowDown", 0), ("Escape", "query"), ("ArrowDown", 0)]
    steps += [("j", place) for place in range(1, last + 1)] + [("j", last), ("/", "query")]
    for key, place in steps:
        page.keyboard.press(key)
        assert focused(page) == place, key
    page.keyboard.type("/jk")  # replaces the query, which is selected
    assert page.input_value("#query") == "/jk"


def test_keys_in_the_options_stay_there(page, address):
    page.goto(f"{address}?q=red&topk=3")
    topk = page.get_by_label("Results")
    topk.focus()
    page.keyboard.press("ArrowUp")
    assert topk.input_value() == "4"
    page.keyboard.press("Escape")
    assert focused(page) == "query"


def test_enter_opens_the_video(page, address, engine):
    search_for(page, address)
    (answer,) = engine.search([QUERY])
    page.keyboard.press("ArrowDown")
    with page.expect_response(f"**/video/{answer.hits[0].row}") as opening:
        page.keyboard.press("Enter")
    assert opening.value.status == 200
    assert opening.value.headers["content-type"] == "video/mp4"


def test_options_and_the_form_go_together(page, address):
    page.goto(address)
    page.get_by_text("Options").click()
    page.get_by_label("Results").fill("2")
    page.get_by_label("Score every video exactly").check()
    page.get_by_role("searchbox").fill("noise")
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".hit")).to_have_count(2)
    expect(page.locator(".summary")).to_contain_text("All 6 videos scored exactly")
    expect(page.get_by_label("Score every video exactly")).to_be_checked()


def test_file_names_are_shown_and_not_run(page, address, document):
    for place in (f"{address}?q={quote('<svg onload=alert(3)>')}", document):
        page.goto(place)
        names = page.locator(".name").all_inner_texts()
        assert "<img src=x onerror=alert(1)>.mp4" in names
        assert "caf\ufffd.mp4" in names
        assert page.locator("img:not(.moving, .still)").count() == 0


def test_it_works_without_scripts(browser, address, engine):
    with opened(browser, java_script_enabled=False) as page:
        loaded = []
        page.on("response", lambda answer: loaded.append((answer.status, answer.url)))
        page.goto(address)
        page.get_by_role("searchbox").fill(QUERY)
        page.get_by_role("searchbox").press("Enter")
        expect(page.locator(".hit")).to_have_count(engine.gallery)
        page.wait_for_load_state("networkidle")
        assert {status for status, _ in loaded} <= {200, 304}
        assert sum("/preview/" in url for _, url in loaded) == engine.gallery
        with page.expect_response("**/video/*") as opening:
            page.locator("a.name").first.click()
        assert opening.value.status == 200


@pytest.mark.parametrize("scripts", [True, False])
def test_the_file_needs_no_network_and_no_script(browser, document, engine, scripts):
    with opened(browser, offline=True, java_script_enabled=scripts) as page:
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(document)
        expect(page.locator(".hit")).to_have_count(2 * engine.gallery)
        assert {url.split(":")[0] for url in asked} <= {"file", "data"}
        if scripts:
            assert all(width > 0 for width in widths(page, ".moving"))


@pytest.mark.parametrize("place", ["", "?q=red&topk=100&exact=1", "?q=red&topk=0", "file"])
def test_nothing_is_wider_than_a_phone(browser, address, document, place):
    with a_page(browser, viewport=PHONE) as page:
        page.goto(document if place == "file" else address + place)
        assert overflow(page) == 0


@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("place", ["", "?q=red&exact=1", "?q=red&topk=0", "nowhere", "file"])
def test_everyone_can_use_it(browser, axe, address, document, place, scheme, viewport):
    # the checks are a script of their own, which the pages themselves do not allow
    settings = {"color_scheme": scheme, "viewport": viewport, "bypass_csp": True}
    with a_page(browser, **settings) as page:
        page.goto(document if place == "file" else address + place)
        assert obstacles(page, axe) == []


@pytest.mark.parametrize("selector", ["#query", "button", "summary", "a.name", "#moving", "h1 a"])
def test_the_focus_can_be_seen(page, address, selector):
    page.goto(f"{address}?q=red")
    page.keyboard.press("Tab")
    page.locator(selector).first.focus()
    style = "one => [getComputedStyle(one).outlineStyle, getComputedStyle(one).outlineWidth]"
    assert page.locator(selector).first.evaluate(style) == ["solid", "3px"]
