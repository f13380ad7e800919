"""Which positions of a saved state fit together."""

import pytest

from tvr.saved_state import Position, position_of
from tvr.utils.errors import UserError

WAYS = dict.fromkeys(("R@1", "R@5", "R@10", "R@50", "MdR", "MnR"), 10.0) | {"R@1 95%": [1, 20]}
LAST = {"label": "last epoch", "epoch": 1, "step": 4, "t2v": WAYS, "v2t": WAYS}
BOTH = {"last": LAST, "best": LAST}


def position(step=6, evaluated=4, skipped=0, results=None):
    results = BOTH if results is None else results
    saved = {"step": step, "evaluated": evaluated, "skipped": skipped, "results": results}
    return position_of({"position": saved}, "the state", total_steps=8)


def test_a_position_is_taken_as_it_was_saved():
    assert position() == Position(6, 4, 0, BOTH)
    assert position(2, 0, results={}) == Position(2, 0, 0, {})
    assert position(8, 8) == Position(8, 8, 0, BOTH)
    assert position(results={"last": LAST}).results == {"last": LAST}


@pytest.mark.parametrize(
    "changed",
    [
        {"step": 9},  # beyond the end
        {"step": 3},  # evaluated later than it stands
        {"step": 2**70},
        {"step": -1},
        {"step": True},
        {"step": 6.0},
        {"evaluated": None},
        {"skipped": 7},  # more than there were
        {"results": {}},  # evaluated, but nothing found
        {"evaluated": 0},  # the other way round
        {"results": {"best": LAST}},
        {"results": {**BOTH, "third": LAST}},
        {"results": {"last": {**LAST, "step": "4"}}},
        {"results": {"last": {**LAST, "label": 7}}},
        {"results": [LAST]},
    ],
)
def test_what_does_not_fit_together_is_refused(changed):
    with pytest.raises(UserError, match="the state"):
        position(**changed)
