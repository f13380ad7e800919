"""Saved states of a training that somebody else wrote, put into a training that goes on."""

import functools
import json
import logging
from dataclasses import asdict

import pytest
import torch
from hostile import VALUES, damaged, rearranged
from hypothesis import given
from hypothesis import strategies as st
from test_fuzz_checkpoints import content, odd_tensors, saved, small_model

from tvr.build import BEST, LAST, Run
from tvr.command_line import parse
from tvr.resume import moments, restore
from tvr.step import Learner
from tvr.utils.distributed import Ranks
from tvr.utils.metrics import table
from tvr.watch import Watch

DATA = "0123456789abcdef"


def learner_of(folder):
    """A training of `small_model` that goes on from the states in `folder`."""
    config = parse(["--resume", "auto", "--output_dir", str(folder)])
    log = logging.Logger("tests")
    log.addHandler(logging.StreamHandler())
    run = Run(config, Ranks(0, 0, 1), torch.device("cpu"), log)
    model = small_model()
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return Learner(run, model, model, optimizer, Watch(torch.zeros(()), list, log.warning))


@functools.cache
def state():
    """What such a training saves."""
    learner = learner_of("o")
    config = learner.run.config.public()
    ways = dict.fromkeys(("R@1", "R@5", "R@10", "R@50", "MdR", "MnR"), 10.0) | {"R@1 95%": [1, 20]}
    last = {"label": "last", "epoch": 1, "step": 4, "t2v": ways, "v2t": ways, "checkpoint": LAST}
    results = {"last": last, "best": {**last, "label": "best", "checkpoint": BEST}}
    position = {"step": 4, "evaluated": 4, "skipped": 0, "results": results}
    settings = asdict(learner.run.config.model_settings())
    own = {
        "config": config,
        "settings": settings,
        "moments": moments(learner),
        "position": position,
        "data": DATA,
    }
    return {**content(), **own}


def read(folder, file=None):
    """Go on after the state, and write down its results as a training does at its end."""
    if file is None:
        return
    (folder / "state_00000004.pt").write_bytes(file)
    learner = learner_of(folder)
    if not (folder / BEST).exists():
        (folder / BEST).write_bytes(saved({**content(), "step": 4}))
    before = moments(learner)
    position = restore(learner, DATA, total_steps=8)
    assert position.step >= 0
    assert all(mine is theirs for mine, theirs in zip(before, moments(learner), strict=True))
    for result in position.results.values():
        assert table(result)
    assert json.dumps(position.results)


@pytest.fixture(scope="module")
def reader(child):
    return child("saved state", read)


def test_a_whole_state_is_taken(reader):
    assert reader.judge(saved(state())) == "accepted"


@given(data=st.data())
def test_states_are_taken_or_refused(reader, data):
    if data.draw(st.integers(0, 3)) == 0:
        reader.judge(data.draw(damaged(saved(state()))))
        return
    part = data.draw(st.sampled_from((None, "config", "moments", "position", "circumstances")))
    whole = state()
    hostile = rearranged(whole if part is None else whole[part], (*VALUES, *odd_tensors()))
    changed = hostile if part is None else hostile.map(lambda value: {**whole, part: value})
    try:
        file = saved(data.draw(changed))
    except (RuntimeError, NotImplementedError, TypeError, RecursionError):
        file = saved(whole)  # not everything can be saved
    reader.judge(file)
