"""How far a training has come, and whether a saved state says so in a way that can be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tvr.utils.errors import UserError
from tvr.utils.metrics import table

MOST_VALUES = 10_000  # that two results have, with a large margin


@dataclass
class Position:
    """How far a training has come.

    `step` updates are done, the last evaluation was after `evaluated` of them, `results` were found
    so far, and `skipped` updates were left out because they were not finite.
    """

    step: int = 0
    evaluated: int = 0
    skipped: int = 0
    results: dict[str, dict[str, Any]] = field(default_factory=dict)


def position_of(content: dict[str, Any], source: str, total_steps: int) -> Position:
    """Where a state stands; `source` is how a message names it.

    Raises:
        UserError: it does not say so, or is of a training of another length.
    """
    saved = content["position"]
    step, evaluated, skipped = (saved.get(name) for name in ("step", "evaluated", "skipped"))
    results = saved.get("results")
    if not all(type(n) is int and n >= 0 for n in (step, evaluated, skipped)):
        raise UserError(f"{source}: the state does not say where it stands.")
    fits = evaluated <= step <= total_steps and skipped <= step
    if not fits or not are_results(results, some=evaluated > 0):
        raise UserError(
            f"{source}: the state stands at step {step!s:.20} of {total_steps}, evaluated after "
            f"{evaluated!s:.20}, which does not fit together."
        )
    return Position(step, evaluated, skipped, results)


def are_results(results: Any, some: bool) -> bool:
    """Whether these are results of evaluations as `train` keeps them, as far as it reads them.

    `some` says whether there are any: then it is the last one, and the best one if it is known.
    """
    if not isinstance(results, dict) or not is_small(results):
        return False
    if set(results) not in (({"last"}, {"last", "best"}) if some else (set(),)):
        return False
    try:
        for result in results.values():
            table(result)
            whole = type(result["epoch"]) is int and type(result["step"]) is int
            if not whole or not isinstance(result["label"], str):
                return False
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        return False
    return True


def is_small(content: Any) -> bool:
    """Whether nested lists and dictionaries hold at most `MOST_VALUES` numbers and strings.

    A list that holds another twice, and so on, has few bytes in a file and no end when it is shown.
    """
    waiting, count = [content], 0
    while waiting:
        value, count = waiting.pop(), count + 1
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list | tuple):
            waiting += value
        elif not isinstance(value, str | int | float | None):
            return False
        if count > MOST_VALUES:
            return False
    return True
