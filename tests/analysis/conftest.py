"""Trainings to look at besides `trained`, and the command in this process."""

from types import SimpleNamespace

import pytest
from runs import training

from main_retrieval import main as retrieval
from tvr.analysis.__main__ import main


def a_training(shapes, output, *flags):
    assert retrieval([str(flag) for flag in training(shapes, output, *flags)]) == 0
    return output


@pytest.fixture(scope="session")
def baseline(shapes, tmp_path_factory):
    """The folder of a training without Δ, which has logged what there is without one."""
    flags = ("--increment", "none", "--log_increment", 1)
    return a_training(shapes, tmp_path_factory.mktemp("baseline"), *flags)


@pytest.fixture(scope="session")
def logged(shapes, tmp_path_factory):
    """The folder of a training that has logged angles, lengths and distances, every 2 steps."""
    flags = ("--log_increment", 1, "--n_display", 2)
    return a_training(shapes, tmp_path_factory.mktemp("logged"), *flags)


@pytest.fixture
def analyse(capsys):
    """`python -m tvr.analysis` in this process; its exit code and what it printed."""

    def run(*flags):
        code = main([str(flag) for flag in (*flags, "--workers", 0, "--device", "cpu")])
        printed = capsys.readouterr()
        return SimpleNamespace(code=code, out=printed.out, err=printed.err)

    return run
