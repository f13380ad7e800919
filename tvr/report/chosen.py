"""Which queries of a ranking are shown, and how many have which rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from tvr.rankings import KEPT, Ranking

BUCKETS = ((1, 1), (2, 5), (6, 10), (11, 50), (51, None))  # first and last rank

Item = TypeVar("Item")


@dataclass(frozen=True)
class Chosen:
    """Some of a direction's queries, and how many there are of each kind.

    `worst` come from all that failed, `near` from those of them whose target is among the best
    `KEPT`.
    """

    queries: int
    succeeded: int
    nearly: int
    successes: list[Ranking]
    worst: list[Ranking]
    near: list[Ranking]

    @property
    def failures(self) -> list[Ranking]:
        """Both kinds of them."""
        return self.worst + self.near


def choose(rankings: Sequence[Ranking], direction: str, count: int) -> Chosen:
    """`count` successes, spread evenly over the queries, and `count` failures.

    Half of the failures, or one more, have the worst ranks, of equal ones the first. The others
    are near misses, spread evenly over those that are not already among the worst.
    """
    own = [each for each in rankings if each.direction == direction]
    right = [each for each in own if each.rank == 1]
    wrong = [each for each in own if each.rank > 1]
    worst = sorted(wrong, key=lambda each: -each.rank)[: count - count // 2]
    nearly = [each for each in wrong if each.rank <= KEPT]
    near = [each for each in nearly if each not in worst]
    return Chosen(
        len(own),
        len(right),
        len(nearly),
        spread(right, count),
        worst,
        spread(near, count // 2),
    )


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """`count` of the items, or all if there are no more, at even distances, the ends included."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)
    return [items[place] for place in places]


def histogram(rankings: Sequence[Ranking], direction: str) -> list[int]:
    """How many queries have a rank in each of `BUCKETS`."""
    ranks = [each.rank for each in rankings if each.direction == direction]
    return [
        sum(first <= rank and (last is None or rank <= last) for rank in ranks)
        for first, last in BUCKETS
    ]


def bucket_name(first: int, last: int | None) -> str:
    """The ranks of a bucket as they are shown."""
    if last is None:
        return f"{first} and more"
    return f"{first}" if first == last else f"{first} to {last}"
