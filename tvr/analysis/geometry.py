"""Figure 8: angles, lengths and distances over a training, positives and negatives apart.

They were logged in training with `--log_increment 1`; `tvr/models/geometry.py` has the equations.
x is the side that Δ is added to, y the other one, v the video pooled by the text.
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure

from tvr.analysis.drawing import COLOURS, NEGATIVE, POSITIVE, label, panels
from tvr.analysis.result import Cell, Result, Unavailable
from tvr.analysis.subject import Request
from tvr.track import METRICS, TRAIN, read_records

NAME = "geometry"
KINDS = (POSITIVE, NEGATIVE)
# A panel's title, and what is in it with what it is called there
PANELS = {
    "angle of Δ with the gap, degrees": {"angle_gap": ""},
    "angle of Δ with x, degrees": {"angle_x": ""},
    "length of Δ": {"norm_delta": "‖Δ‖"},
    "lengths": {"norm_corrected": "‖x^Δ‖", "norm_text": "‖t‖", "norm_video": "‖v‖"},
    "distance": {"distance_corrected": "‖x^Δ − y‖", "distance": "‖t − v‖"},
    "cosine": {"cosine_corrected": "with Δ", "cosine": "without Δ"},
}
LINES = ("-", "--", ":")


def make(request: Request) -> Result:
    """The curves of metrics.jsonl.

    Raises:
        Unavailable: the training has not logged them.
    """
    path = request.folder / METRICS
    records = [
        record
        for record in read_records(path)
        if record["split"] == TRAIN and all(is_number(record.get(f"{k}/cosine")) for k in KINDS)
    ]
    if not records:
        raise Unavailable(
            f"{path} has no angles, lengths and distances: train with --log_increment 1."
        )
    quantities = [name for panel in PANELS.values() for name in panel if of(records, name)]
    return Result(NAME, table(records, quantities), draw(records, quantities), said(records))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def of(records: list[dict[str, Any]], name: str, kind: str = POSITIVE) -> list[tuple[int, float]]:
    """A quantity's curve: step and mean of the pairs, where it was logged."""
    full = f"{kind}/{name}"
    return [(r["step"], r[full]) for r in records if is_number(r.get(full))]


def said(records: list[dict[str, Any]]) -> list[str]:
    """Where every curve starts and ends, and its lowest and highest point."""
    lines = []
    for panel, names in PANELS.items():
        for name, called in names.items():
            for kind in KINDS:
                curve = of(records, name, kind)
                if not curve:
                    continue
                low, high = (f(curve, key=lambda point: point[1]) for f in (min, max))
                lines.append(
                    f"{panel}{', ' if called else ''}{called}, {kind}s: {curve[0][1]:.4g} at step "
                    f"{curve[0][0]}, {curve[-1][1]:.4g} at step {curve[-1][0]}; lowest "
                    f"{low[1]:.4g} at {low[0]}, highest {high[1]:.4g} at {high[0]}"
                )
    return lines


def table(records: list[dict[str, Any]], quantities: list[str]) -> list[tuple[Cell, ...]]:
    """A row a log line, a column a quantity of positives or negatives."""
    names = [f"{kind}/{name}" for name in quantities for kind in KINDS]
    values = [(r["step"], *(float(r[n]) if n in r else "" for n in names)) for r in records]
    return [("step", *names), *values]


def draw(records: list[dict[str, Any]], quantities: list[str]) -> Figure:
    """The panels that have curves; positives in blue, negatives in red."""
    shown = {title: names for title, names in PANELS.items() if any(n in quantities for n in names)}
    figure, axes = panels(2, 3, "Means over a batch's pairs, in training")
    for axis, (title, names) in zip(axes.flat, shown.items(), strict=False):
        present = {name: called for name, called in names.items() if name in quantities}
        for (name, called), line in zip(present.items(), LINES, strict=False):
            for kind in KINDS:
                steps, values = zip(*of(records, name, kind), strict=True)
                text = f"{called}, {kind}s" if called else f"{kind}s"
                mark = {"marker": ".", "markersize": 3, "linewidth": 1}
                axis.plot(steps, values, line, color=COLOURS[kind], label=text, **mark)
        label(axis, title, "step")
    for axis in axes.flat[len(shown) :]:
        axis.remove()
    return figure
