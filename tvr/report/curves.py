"""Which curves of a training are shown, from the records of its metrics.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from tvr.report.charts import Chart, Curve
from tvr.report.content import is_number
from tvr.report.folder import ARROWS
from tvr.track import TRAIN

MOST_POINTS = 120  # of a curve

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """A chart: what its curves are called and how the records call them.

    `spread` is what the records call the spread of the one curve; `lowest` as in `Chart`.
    """

    title: str
    names: Mapping[str, str]
    note: str = ""
    spread: str = ""
    lowest: float | None = None


PLANS = (
    Plan("Loss", {"total": "loss", "InfoNCE": "nce"}),
    Plan("Bottleneck", {"bottleneck": "ib"}, "Before its weight β."),
    Plan("Radius loss", {"radius": "epsilon"}, "Before its weight λ_ε."),
    Plan("Direction loss", {"direction": "dir"}, "Before its weight λ_dir."),
    Plan(
        "Length of Δ",
        {"‖Δ‖": "delta/norm"},
        "Shaded: one standard deviation over an anchor's candidates.",
        spread="delta/norm_sd",
    ),
    Plan(
        "Angle of Δ with the gap, degrees",
        {"positives": "positive/angle_gap", "negatives": "negative/angle_gap"},
    ),
    Plan(
        "Angle of Δ with the corrected side, degrees",
        {"positives": "positive/angle_x", "negatives": "negative/angle_x"},
    ),
    Plan("Logit scale", {"scale": "scale"}),
    Plan("Gradient norm", {"all parameters": "grad_norm"}, "Before clipping.", lowest=0),
    Plan("Learning rate of the new modules", {"rate": "lr/new"}, lowest=0),
    Plan("Learning rate of CLIP", {"rate": "lr/clip"}, lowest=0),
)


def charts(records: Sequence[Record]) -> list[Chart]:
    """The charts that there are values for: R@1 of the evaluations first, then the training's."""
    usable = [record for record in records if is_number(record["step"]) and record["step"] >= 0]
    usable.sort(key=lambda record: record["step"])
    evaluations = [record for record in usable if record["split"] != TRAIN]
    found = [chart([each for each in usable if each["split"] == TRAIN], plan) for plan in PLANS]
    if evaluations:
        split = evaluations[-1]["split"]
        names = {arrow: f"{direction}/R@1" for direction, arrow in ARROWS.items()}
        plan = Plan(f"R@1 on {split}, %", names, lowest=0)
        found.insert(0, chart([each for each in evaluations if each["split"] == split], plan))
    return [each for each in found if each.curves]


def chart(records: Sequence[Record], plan: Plan) -> Chart:
    """The chart of a plan; it has no curve where the records have nothing for it."""
    count, curves = 1, []
    for name, key in plan.names.items():
        wanted = (key, plan.spread) if plan.spread else (key,)
        own = [each for each in records if all(is_number(each.get(one)) for one in wanted)]
        if not own:
            continue
        count = max(count, -(-len(own) // MOST_POINTS))
        steps = [group[-1]["step"] for group in groups(own)]
        values = [[fmean(each[one] for each in group) for group in groups(own)] for one in wanted]
        curves.append(Curve(name, steps, *values))
    pooled = f"Each point is the mean of {count} log lines." if count > 1 else ""
    note = " ".join(filter(None, (plan.note, pooled)))
    return Chart(plan.title, curves, note, plan.lowest)


def groups(records: Sequence[Record]) -> list[Sequence[Record]]:
    """The records in as few groups of consecutive ones as a curve may have points."""
    count = -(-len(records) // MOST_POINTS)
    return [records[first : first + count] for first in range(0, len(records), count)]
