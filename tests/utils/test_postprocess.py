"""Post-processing against slow loops, on matrices that are not square."""

import math

import numpy as np
import pytest

from tvr.utils.postprocess import dual_softmax, qb_norm, sinkhorn

SCORES = np.random.RandomState(0).uniform(-1, 1, (7, 4))
BANK = np.random.RandomState(1).uniform(-1, 1, (9, 4))


def test_dual_softmax_is_the_score_times_a_softmax_over_the_queries():
    got = dual_softmax(SCORES, 0.1)
    for c in range(4):
        total = sum(math.exp(s / 0.1) for s in SCORES[:, c])
        for q in range(7):
            expected = SCORES[q, c] * math.exp(SCORES[q, c] / 0.1) / total
            assert got[q, c] == pytest.approx(expected, rel=1e-9)


def test_dual_softmax_takes_a_candidate_away_from_the_weaker_query():
    # both queries prefer candidate 0; it belongs to the first
    scores = np.array([[0.9, 0.1], [0.6, 0.5]])
    assert list(scores.argmax(axis=1)) == [0, 0]
    assert list(dual_softmax(scores, 0.1).argmax(axis=1)) == [0, 1]


def test_sinkhorn_shares_the_mass_equally():
    plan = np.exp(sinkhorn(SCORES, 0.2))
    np.testing.assert_allclose(plan.sum(axis=1), 1 / 7, rtol=1e-9)
    np.testing.assert_allclose(plan.sum(axis=0), 1 / 4, rtol=1e-4)
    # scaling rows and columns leaves the cross ratios of exp(s / T)
    ratio = plan[0, 0] * plan[3, 2] / (plan[0, 2] * plan[3, 0])
    cross = SCORES[0, 0] + SCORES[3, 2] - SCORES[0, 2] - SCORES[3, 0]
    assert math.log(ratio) == pytest.approx(cross / 0.2, abs=1e-6)


def test_qb_norm_normalises_only_queries_that_choose_a_hub():
    got = qb_norm(SCORES, BANK, 0.05)
    hubs = {max(range(4), key=lambda c, row=row: row[c]) for row in BANK}
    for q in range(7):
        best = max(range(4), key=lambda c, q=q: SCORES[q, c])
        for c in range(4):
            expected = SCORES[q, c] / 0.05
            if best in hubs:
                expected -= math.log(sum(math.exp(b / 0.05) for b in BANK[:, c]))
            assert got[q, c] == pytest.approx(expected, rel=1e-9)


def test_qb_norm_leaves_a_query_alone_whose_best_candidate_is_no_hub():
    bank = np.array([[0.9, 0.0, 0.0], [0.8, 0.1, 0.0]])  # candidate 0 is the only hub
    scores = np.array([[0.2, 0.9, 0.1], [0.5, 0.4, 0.1]])
    got = qb_norm(scores, bank, 0.1)
    np.testing.assert_allclose(got[0], scores[0] / 0.1)
    assert got[1].argmax() == 1  # the hub lost to the second best


@pytest.mark.parametrize("temperature", [1e-3, 1.0])
def test_small_temperatures_do_not_overflow(temperature):
    results = [
        dual_softmax(SCORES, temperature),
        sinkhorn(SCORES, temperature),
        qb_norm(SCORES, BANK, temperature),
    ]
    assert all(np.isfinite(result).all() for result in results)
