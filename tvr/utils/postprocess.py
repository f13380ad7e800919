"""Scores re-normalised over many queries: off by default, and reported beside the raw ones.

Dual softmax and Sinkhorn look at the whole test set, which a system that answers one query at a
time cannot do; QB-Norm looks at training captions instead. All work on matrices of any shape.

Shapes: A captions, B videos, Q queries, C candidates, K captions of the query bank.
"""

from __future__ import annotations

import numpy as np

SINKHORN_ROUNDS = 50
LEAST_SCORE = 1e-6  # the resolution of a cosine in single precision


def log_softmax(scores: np.ndarray, axis: int) -> np.ndarray:
    return scores - log_sum_exp(scores, axis)


def log_sum_exp(scores: np.ndarray, axis: int) -> np.ndarray:
    top = scores.max(axis=axis, keepdims=True)
    shifted = scores - top
    np.exp(shifted, out=shifted)
    return top + np.log(shifted.sum(axis=axis, keepdims=True))


def dual_softmax(scores_QC: np.ndarray, temperature: float) -> np.ndarray:
    """log s_qc + log softmax over the queries of s_qc / T: a candidate is shared out.

    The logarithm of what CAMoE (Cheng et al. 2021) and others rank by, s · softmax(s / T); their
    scores carry CLIP's factor of 100, so that their T of 1 is 0.01 here. The order is theirs
    wherever scores are positive, without the ties of products too small for a float. A negative
    score would there rank lower the larger its share; here LEAST_SCORE takes its place in the first
    term, so that a higher score is never worse.
    """
    scores_QC = scores_QC.astype(np.float64)
    share_QC = log_softmax(scores_QC / temperature, axis=0)
    return np.log(np.maximum(scores_QC, LEAST_SCORE)) + share_QC


def sinkhorn(scores_QC: np.ndarray, temperature: float) -> np.ndarray:
    """log of the transport plan exp(s / T), scaled so that rows and columns have equal sums.

    Every query gets the same mass and every candidate takes the same, whatever Q and C are. In
    single precision and in place: besides the scores, memory for two matrices of their size.
    """
    plan_QC = scores_QC.astype(np.float32)
    plan_QC /= temperature
    queries, candidates = plan_QC.shape
    for _ in range(SINKHORN_ROUNDS):
        plan_QC -= log_sum_exp(plan_QC, axis=0) + np.float32(np.log(candidates))
        plan_QC -= log_sum_exp(plan_QC, axis=1) + np.float32(np.log(queries))
    return plan_QC


def qb_norm(scores_QC: np.ndarray, bank_KC: np.ndarray, temperature: float) -> np.ndarray:
    """QB-Norm's dynamic inverted softmax with a bank of training queries (Bogolin et al. 2022).

    A candidate that is some bank query's best is a hub. Queries whose best candidate is a hub are
    scored by s_qc / T − log Σ_k exp(bank_kc / T); all others keep s_qc / T. Only comparisons within
    one query are meaningful.
    """
    scores_QC = scores_QC.astype(np.float64) / temperature
    bank_KC = bank_KC.astype(np.float64) / temperature
    hubs = np.unique(bank_KC.argmax(axis=1))
    near_hub_Q = np.isin(scores_QC.argmax(axis=1), hubs)
    return np.where(near_hub_Q[:, None], scores_QC - log_sum_exp(bank_KC, axis=0), scores_QC)
