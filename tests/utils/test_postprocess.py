"""Post-processing against slow loops, on matrices that are not square."""

import math

import numpy as np
import pytest

from tvr.utils.postprocess import dual_softmax, qb_norm, sinkhorn

SCORES = np.random.RandomState(0).uniform(-1, 1, (7, 4))
BANK = np.random.RandomState(1).uniform(-1, 1, (9, 4))


def test_dual_softmax_ranks_positive_scores_as_the_product_with_a_softmax_over_the_queries():
    scores = np.abs(SCORES)
    got = dual_softmax(scores, 0.1)
    for c in range(4):
        total = sum(math.exp(s / 0.1) for s in scores[:, c])
        for q in range(7):
            expected = scores[q, c] * math.exp(scores[q, c] / 0.1) / total
            assert math.exp(got[q, c]) == pytest.approx(expected, rel=1e-9)


def test_dual_softmax_ranks_a_negative_score_higher_the_larger_its_share():
    # the same score in both columns; the first candidate is otherwise nobody's
    scores = np.array([[-0.2, -0.2], [-0.9, -0.1]])
    got = dual_softmax(scores, 0.1)
    assert got[0, 0] > got[0, 1]


@pytest.mark.parametrize("temperature", [1e-4, 0.01, 1.0])
def test_dual_softmax_never_ranks_a_higher_score_lower(temperature):
    ranked_by = []
    for score in (-0.9, -0.8, -0.1, 0.0, 0.1, 0.9):
        scores = SCORES.copy()
        scores[2, 1] = score
        ranked_by.append(dual_softmax(scores, temperature)[2, 1])
    assert ranked_by == sorted(set(ranked_by))


def test_dual_softmax_has_no_ties_where_products_are_too_small_for_a_float():
    scores = np.array([[0.3, 0.2, -0.1, -0.2], [0.5, 0.5, 0.5, 0.5]])
    assert (scores * np.exp((scores - scores.max(axis=0)) / 1e-4))[0].tolist() == [0, 0, 0, 0]
    assert list(np.argsort(-dual_softmax(scores, 1e-4)[0])) == [0, 1, 2, 3]


def test_dual_softmax_takes_a_candidate_away_from_the_weaker_query():
    # both queries prefer candidate 0; it belongs to the first
    scores = np.array([[0.9, 0.1], [0.6, 0.5]])
    assert list(scores.argmax(axis=1)) == [0, 0]
    assert list(dual_softmax(scores, 0.1).argmax(axis=1)) == [0, 1]


def test_sinkhorn_shares_the_mass_equally():
    plan = np.exp(sinkhorn(SCORES, 0.2).astype(np.float64))
    np.testing.assert_allclose(plan.sum(axis=1), 1 / 7, rtol=1e-5)
    np.testing.assert_allclose(plan.sum(axis=0), 1 / 4, rtol=1e-4)
    # scaling rows and columns leaves the cross ratios of exp(s / T)
    ratio = plan[0, 0] * plan[3, 2] / (plan[0, 2] * plan[3, 0])
    cross = SCORES[0, 0] + SCORES[3, 2] - SCORES[0, 2] - SCORES[3, 0]
    assert math.log(ratio) == pytest.approx(cross / 0.2, abs=1e-5)


def test_sinkhorn_at_a_small_temperature_is_the_same_in_double_precision():
    plan = SCORES / 1e-3
    for _ in range(50):
        plan = plan - np.logaddexp.reduce(plan, axis=0, keepdims=True) - math.log(4)
        plan = plan - np.logaddexp.reduce(plan, axis=1, keepdims=True) - math.log(7)
    np.testing.assert_allclose(sinkhorn(SCORES, 1e-3), plan, atol=0.02)
    np.testing.assert_array_equal(np.argsort(sinkhorn(SCORES, 1e-3)), np.argsort(plan))


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


@pytest.mark.parametrize("temperature", [1e-4, 1.0])
def test_small_temperatures_do_not_overflow(temperature):
    results = [
        dual_softmax(SCORES, temperature),
        sinkhorn(SCORES, temperature),
        qb_norm(SCORES, BANK, temperature),
    ]
    assert all(np.isfinite(result).all() for result in results)
