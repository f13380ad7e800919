"""Which queries a report shows."""

import pytest

from tvr.rankings import Ranking
from tvr.report.chosen import BUCKETS, bucket_name, choose, histogram, spread


def ranked(*ranks, direction="t2v"):
    return [
        Ranking(direction, f"q{number}", "target", rank, 0.5, [("other", 0.9)])
        for number, rank in enumerate(ranks)
    ]


def names(rankings):
    return " ".join(each.query for each in rankings)


def test_successes_are_spread_over_the_queries():
    rankings = ranked(1, 2, 1, 1, 9, 1, 1) + ranked(1, direction="v2t")
    chosen = choose(rankings, "t2v", 3)
    assert names(chosen.successes) == "q0 q3 q6"
    assert (chosen.queries, chosen.succeeded, chosen.nearly) == (7, 5, 1)


def test_failures_are_the_worst_and_near_misses():
    chosen = choose(ranked(2, 80, 3, 7, 80, 2, 1, 5, 60, 4), "t2v", 5)
    assert names(chosen.worst) == "q1 q4 q8"
    assert names(chosen.near) == "q0 q9"
    assert chosen.failures == chosen.worst + chosen.near


def test_near_misses_are_not_shown_twice():
    chosen = choose(ranked(3, 2), "t2v", 2)
    assert (names(chosen.worst), names(chosen.near)) == ("q0", "q1")
    chosen = choose(ranked(3), "t2v", 4)
    assert (names(chosen.worst), names(chosen.near)) == ("q0", "")


def test_one_example_is_the_worst():
    assert names(choose(ranked(2, 6, 9), "t2v", 1).failures) == "q2"


def test_where_there_is_nothing_to_choose():
    chosen = choose(ranked(1, 1), "t2v", 6)
    assert names(chosen.successes) == "q0 q1"
    assert chosen.failures == []
    assert choose([], "t2v", 6).queries == 0


@pytest.mark.parametrize(
    ("count", "places"), [(0, []), (1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9]), (99, list(range(10)))]
)
def test_spread(count, places):
    assert spread(range(10), count) == places


def test_every_rank_is_in_one_bucket():
    counts = histogram(ranked(*range(1, 101)), "t2v")
    assert counts == [1, 4, 5, 40, 50]
    assert histogram(ranked(1), "v2t") == [0] * len(BUCKETS)
    assert [bucket_name(*bucket) for bucket in BUCKETS] == [
        *("1", "2 to 5", "6 to 10", "11 to 50", "51 and more"),
    ]
