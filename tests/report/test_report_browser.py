"""Reports of real runs in a real browser, opened as files."""

import json
from itertools import product

import pytest
from browsing import PHONE, WIDE, a_page, obstacles, opened, overflow, widths
from output_folders import FILE_NAME, HOSTILE
from playwright.sync_api import expect

PAGES = ["training", "evaluation", "long", "hostile"]


@pytest.fixture(scope="session")
def addresses(trained, evaluated, long_training, hostile):
    """Where the reports are, by what they are of."""
    runs = {"training": trained[0] / "report.html", "evaluation": evaluated / "report.html"}
    paths = runs | {"long": long_training, "hostile": hostile}
    return {name: path.as_uri() for name, path in paths.items()}


@pytest.fixture
def page(browser):
    with opened(browser) as found:
        yield found


def unfold(page, selector="details"):
    """Open the parts that are folded."""
    page.eval_on_selector_all(selector, "all => all.forEach(one => one.open = true)")


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
@pytest.mark.parametrize("name", PAGES)
def test_it_needs_no_network_and_no_script(browser, addresses, name, scripts):
    with opened(browser, offline=True, java_script_enabled=scripts) as page:
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(addresses[name])
        expect(page.locator("h2#results")).to_be_visible()
        page.locator("h2#settings").scroll_into_view_if_needed()
        assert {url.split(":")[0] for url in asked} <= {"file", "data"}
        assert [url for url in asked if url.startswith("file")] == [addresses[name]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_every_picture_can_be_seen(browser, addresses, name, scheme):
    with opened(browser, color_scheme=scheme) as page:
        page.goto(addresses[name])
        found = widths(page, "img")
        assert found
        assert all(width > 0 for width in found)
        charts = page.locator("img.chart")
        assert charts.count() == {"training": 10, "long": 12}.get(name, 0)
        taken = charts.evaluate_all("all => all.map(one => one.currentSrc === one.src)")
        assert set(taken) <= {scheme == "light"}, "the dark picture on a dark page only"


@pytest.mark.parametrize("name", ["training", "evaluation"])
def test_its_numbers_are_those_of_the_run(page, trained, evaluated, addresses, name):
    folder = trained[0] if name == "training" else evaluated
    results = json.loads((folder / "metrics.json").read_text())["results"]
    page.goto(addresses[name])
    bodies = page.locator(".metrics tbody")
    expect(bodies).to_have_count(len(results))
    for result, body in zip(results, bodies.all(), strict=True):
        label, *rows = [row.locator("th, td").all_inner_texts() for row in body.locator("tr").all()]
        assert label == [result["label"]]
        expected = []
        for direction, arrow in (("t2v", "text → video"), ("v2t", "video → text")):
            m = result[direction]
            low, high = m["R@1 95%"]
            rest = [f"{m[n]:.1f}" for n in ("R@5", "R@10", "R@50", "MdR", "MnR")]
            expected.append([arrow, f"{m['R@1']:.1f}", f"{low:.1f} to {high:.1f}", *rest])
        assert rows == expected
    shown = page.locator(".headline b").all_inner_texts()
    assert shown == [f"{results[0][direction]['R@1']:.1f}" for direction in ("t2v", "v2t")]


def test_the_numbers_of_a_chart_are_those_of_the_training(page, trained, addresses):
    records = map(json.loads, (trained[0] / "metrics.jsonl").read_text().splitlines())
    losses = [(r["step"], f"{r['loss']:#.4g}") for r in records if r["split"] == "train"]
    page.goto(addresses["training"])
    figure = page.locator("figure", has=page.get_by_role("heading", name="Loss", exact=True))
    figure.get_by_text("Numbers").click()
    rows = [row.locator("th, td").all_inner_texts() for row in figure.locator("tbody tr").all()]
    assert [(int(step), total) for step, total, _ in rows] == losses
    alt = figure.locator("img").get_attribute("alt")
    first, last = (loss.rstrip("0") for _, loss in (losses[0], losses[-1]))
    assert f"total: first {first} (step {losses[0][0]}), last {last} (step" in alt


def test_previews_stop_when_asked_to(page, addresses):
    page.goto(addresses["evaluation"])
    expect(page.locator(".still:visible")).to_have_count(0)
    moving = page.locator(".moving:visible").count()
    assert moving > 30
    page.get_by_label("Moving previews").uncheck()
    expect(page.locator(".moving:visible")).to_have_count(0)
    expect(page.locator(".still:visible")).to_have_count(moving)
    page.get_by_label("Moving previews").check()
    expect(page.locator(".still:visible")).to_have_count(0)


def test_previews_stand_still_for_who_prefers_that(browser, addresses):
    with opened(browser, reduced_motion="reduce") as page:
        page.goto(addresses["evaluation"])
        expect(page.locator(".moving:visible")).to_have_count(0)
        expect(page.get_by_label("Moving previews")).to_be_hidden()
        assert all(width > 0 for width in widths(page, ".still"))


def test_the_right_one_is_told_in_words(page, addresses):
    page.goto(addresses["evaluation"])
    examples = page.locator("article")
    assert examples.count() > 6
    for example in examples.all():
        expect(example.locator(".right")).to_have_count(1)
        expect(example.locator(".right")).to_contain_text("✓ right")
        expect(example.get_by_text("✓ right")).to_have_count(1)


def test_texts_of_others_are_shown_and_not_run(page, addresses):
    page.goto(addresses["hostile"])
    unfold(page)
    assert HOSTILE in page.locator("article h4").first.inner_text()
    names = page.locator(".videos .id").all_inner_texts()
    assert all(name.startswith(FILE_NAME) for name in names)
    assert page.locator("img:not(.moving, .still)").count() == 0
    expect(page.locator("article", has_text="no preview")).to_have_count(0)
    assert page.evaluate("[document.scripts.length, document.querySelectorAll('b b').length]") == [
        *(0, 0),
    ]


@pytest.mark.parametrize("size", [PHONE, WIDE], ids=["phone", "wide"])
@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_wider_than_its_place(browser, addresses, name, size):
    with a_page(browser, viewport=size) as page:
        page.goto(addresses[name])
        unfold(page)
        assert overflow(page) == 0
        wider = page.eval_on_selector_all(
            "dt, dd, h1, h2, h3, h4, p, li",
            "all => all.filter(o => o.scrollWidth > o.clientWidth).map(o => o.textContent)",
        )
        assert wider == []


@pytest.mark.parametrize(
    ("name", "scheme", "size"), product(PAGES, ["light", "dark"], ["wide", "phone"])
)
def test_everyone_can_use_it(browser, axe, addresses, name, scheme, size):
    # the checks are a script of their own, which the pages themselves do not allow
    viewport = WIDE if size == "wide" else PHONE
    settings = {"color_scheme": scheme, "viewport": viewport, "bypass_csp": True}
    with a_page(browser, **settings) as page:
        page.goto(addresses[name])
        # of a dozen long tables, all made alike, some are enough
        unfold(page, "figure:nth-child(-n+2) details" if name == "long" else "details")
        assert obstacles(page, axe) == []


@pytest.mark.parametrize("selector", ["nav a", "summary", "#moving", ".scroll"])
def test_the_focus_can_be_seen(page, addresses, selector):
    page.goto(addresses["training"])
    page.keyboard.press("Tab")
    page.locator(selector).first.focus()
    style = "one => [getComputedStyle(one).outlineStyle, getComputedStyle(one).outlineWidth]"
    assert page.locator(selector).first.evaluate(style) == ["solid", "3px"]


def test_its_parts_can_be_reached_from_the_top(page, addresses):
    page.goto(addresses["training"])
    for link in page.locator("nav a").all():
        link.click()
        target = page.locator(link.get_attribute("href"))
        expect(target).to_be_in_viewport()
        assert target.inner_text() == link.inner_text()
