"""Looking at pages in a real browser."""

from contextlib import contextmanager

PATIENCE = 120_000  # milliseconds
WIDE, PHONE = {"width": 1100, "height": 2400}, {"width": 320, "height": 3200}


@contextmanager
def a_page(browser, **settings):
    """A page of its own."""
    with browser.new_context(**{"viewport": WIDE, **settings}) as context:
        context.set_default_timeout(PATIENCE)
        yield context.new_page()


@contextmanager
def opened(browser, **settings):
    """A page of its own in which nothing goes wrong."""
    problems = []

    def failed(request):
        # what the browser itself breaks off is no fault: the pictures of a page that is left, and a
        # video of which it has enough
        if request.failure != "net::ERR_ABORTED":
            problems.append(f"{request.failure}: {request.url}")

    with a_page(browser, **settings) as page:
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("requestfailed", failed)
        page.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
        yield page
        assert problems == [], problems


def widths(page, selector):
    """How wide the pictures are once they are decoded, those out of sight as well."""
    return page.eval_on_selector_all(
        selector,
        """all => Promise.all(all.map(one => {
            one.loading = "eager";
            return one.decode().then(() => one.naturalWidth);
        }))""",
    )


def overflow(page):
    """By how many pixels a page is wider than its window."""
    return page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


def obstacles(page, axe):
    """What axe-core finds that keeps people from using a page, which it must have looked at."""
    page.evaluate(axe)
    found = page.evaluate("axe.run()")
    assert "color-contrast" in {rule["id"] for rule in found["passes"]}
    return [(rule["id"], rule["nodes"][0]["html"]) for rule in found["violations"]]
