"""The charts of a report, and which curves they show."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from output_folders import record

from tvr.pages.html import BASE_STYLE, STATIC
from tvr.report.charts import DARK, LINES, TEXT, Chart, Curve, drawn, even, short
from tvr.report.curves import MOST_POINTS, charts

CHART = Chart(
    "Loss", [Curve("total", [1, 2, 1500], [3.0, 4.5, 0.00012]), Curve("InfoNCE", [2], [1.0])]
)


def test_it_says_what_is_to_be_seen():
    assert CHART.words() == (
        "Chart. Loss. total: first 3 (step 1), last 1.2e-4 (step 1,500), lowest 1.2e-4 "
        "(step 1,500), highest 4.5 (step 2). InfoNCE: first 1 (step 2), last 1 (step 2), lowest 1 "
        "(step 2), highest 1 (step 2)."
    )


def test_its_numbers_as_a_table():
    assert CHART.rows() == [
        *(("1", "3.000", ""), ("2", "4.500", "1.000"), ("1,500", "1.200e-4", "")),
    ]


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "0.000"), (100.0, "100.0"), (-2e-7, "-2.000e-7"), (3.01, "3.010")]
)
def test_numbers_of_a_column(value, shown):
    assert even(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *((0.0, "0"), (0.000123456, "1.235e-4"), (-2e-7, "-2e-7"), (0.001, "0.001")),
        *((13.8155, "13.82"), (-0.25, "-0.25"), (100.0, "100"), (9.9999e-4, "1e-3")),
    ],
)
def test_numbers(value, shown):
    assert short(value) == shown


def test_equal_charts_give_equal_pictures():
    again = Chart("Loss", [Curve(c.name, list(c.steps), list(c.values)) for c in CHART.curves])
    assert drawn(CHART) == drawn(again)


def test_a_picture_stands_alone():
    for picture in drawn(CHART):
        root = ElementTree.fromstring(picture)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        for element in root.iter():
            assert not element.tag.endswith(("script", "image", "foreignObject"))
            for name, value in element.attrib.items():
                assert not name.endswith("href") or value.startswith("#")
                assert "url(" not in value or "url(#" in value
        texts = [element.text for element in root.iter() if element.tag.endswith("text")]
        assert {"total", "InfoNCE"} <= set(texts)


def test_a_dark_page_has_its_own_colours():
    light, dark = (picture.decode() for picture in drawn(CHART))
    assert all(colour not in dark for colour in DARK)
    for colour, other in DARK.items():
        assert light.count(colour) == dark.count(other)
    drawn_lines = [colour for colour in LINES if colour in light]
    assert len(drawn_lines) == 2


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    """WCAG's ratio."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_colours_can_be_seen_on_a_card():
    light, dark = cards()
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for colour, other in (*LINES.items(), TEXT):
        assert contrast(colour, light) >= 4.5
        assert contrast(other, dark) >= 4.5


def cards():
    """What charts stand on, on a light and on a dark page."""
    found = re.findall(r"--card: #(\w+);", (STATIC / BASE_STYLE).read_text())
    return [
        "#" + (colour if len(colour) == 6 else "".join(2 * c for c in colour)) for colour in found
    ]


def test_every_kind_of_record_has_its_chart():
    evaluation = {"step": 6, "epoch": 1, "split": "x test", "t2v/R@1": 40.0, "v2t/R@1": 30.0}
    found = charts([record(2), record(4), record(6), evaluation])
    assert [chart.title for chart in found] == [
        *("R@1 on x test, %", "Loss", "Bottleneck", "Radius loss", "Direction loss"),
        *("Length of Δ", "Angle of Δ with the gap, degrees"),
        *("Angle of Δ with the corrected side, degrees", "Logit scale", "Gradient norm"),
        *("Learning rate of the new modules", "Learning rate of CLIP"),
    ]
    assert found[0].rows() == [("6", "40.00", "30.00")]
    assert found[1].rows() == [
        *(("2", "2.998", "2.498"), ("4", "2.996", "2.496"), ("6", "2.994", "2.494")),
    ]
    assert found[5].curves[0].spread == [0.5, 0.5, 0.5]
    assert [curve.name for curve in found[6].curves] == ["positives", "negatives"]


def test_what_was_not_recorded_has_no_chart():
    baseline = {"step": 2, "split": "train", "loss": 3.0, "nce": 3.0, "scale": 14.0}
    assert [chart.title for chart in charts([baseline])] == ["Loss", "Logit scale"]
    assert charts([]) == []


def test_many_records_become_means():
    (chart,) = charts([{"step": step, "split": "train", "scale": step} for step in range(1, 502)])
    (curve,) = chart.curves
    count = 5
    assert chart.note == "Each point is the mean of 5 log lines."
    assert len(curve.steps) == -(-501 // count) <= MOST_POINTS
    assert (curve.steps[:2], curve.values[:2]) == ([5, 10], [3.0, 8.0])
    assert (curve.steps[-1], curve.values[-1]) == (501, 501.0)


def test_an_evaluation_is_shown_for_one_split():
    records = [
        {"step": step, "split": split, "t2v/R@1": 1.0}
        for step, split in ((1, "other"), (2, "val"), (3, "val"))
    ]
    (chart,) = charts(records)
    assert (chart.title, chart.curves[0].steps) == ("R@1 on val, %", [2, 3])


@pytest.mark.parametrize(
    "value", [True, None, "3", [], float("nan"), float("inf"), -float("inf"), 1e300, 10**400]
)
def test_what_is_no_number_is_not_drawn(value):
    assert charts([{"step": 1, "split": "train", "scale": value}]) == []
    assert charts([{"step": value, "split": "train", "scale": 1.0}]) == []


@pytest.mark.parametrize("values", [[2**53, -(2**53)], [0.0, 0.0], [1e-300, 2e-300], [7.0]])
def test_any_number_can_be_drawn(values):
    records = [
        {"step": 2**53 - 1 + step, "split": "train", "grad_norm": value, "scale": value}
        for step, value in enumerate(values)
    ]
    for chart in charts(records):
        for picture in drawn(chart):
            ElementTree.fromstring(picture)


def test_records_in_another_order_give_the_same_charts():
    records = [record(step) for step in (2, 4, 6)]
    assert charts(records[::-1]) == charts(records)
    steps = charts(records[::-1])[0].curves[0].steps
    assert all(a < b for a, b in pairwise(steps))
