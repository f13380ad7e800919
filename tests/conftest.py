"""What the end-to-end tests share: a small MSR-VTT of made-up videos, and runs on it."""

import logging
import shutil
import signal
import sys
from contextlib import suppress
from importlib.resources import files
from types import SimpleNamespace

import pytest
import torch
from browsing import PATIENCE
from programs import run_program
from runs import LONGER, evaluation, program, training
from tables import Tables

from main_retrieval import main
from tvr.utils.logging import LOGGER_NAME


def pytest_addoption(parser):
    """For tests/faults: their seed, and 50 for the long form."""
    parser.addoption("--seed", type=int, default=0)
    parser.addoption("--trials", type=int, help="of a training; the others' numbers follow")


def pytest_configure(config):
    """Ctrl-C works in the programs that tests start, also where a shell ran pytest with `&`."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    config.pluginmanager.register(Tables())


@pytest.fixture(autouse=True)
def quiet_after():
    """A run in this process leaves its logger to nobody."""
    yield
    logger = logging.getLogger(LOGGER_NAME)
    while logger.handlers:
        with suppress(OSError):  # of a disk that a test has filled
            logger.handlers.pop().close()
    logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """24 training and 13 test videos, compressed: the folder has `anns` and `videos_3fps`."""
    folder = tmp_path_factory.mktemp("shapes")
    python = sys.executable
    made = run_program(
        python, "preprocess/make_shapes.py", "--output", folder, "--train", 24, "--test", 13
    )
    assert made.returncode == 0, made.stderr
    compressed = run_program(
        *(python, "preprocess/compress_video.py", "--input_root", folder / "videos"),
        *("--output_root", folder / "videos_3fps"),
    )
    assert compressed.returncode == 0, compressed.stderr
    return folder


@pytest.fixture
def call(capsys):
    """`main_retrieval.py` in this process, which saves its seconds of imports.

    With one thread, as in the processes that are started: another number rounds otherwise.
    """

    def run(*flags):
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            code = main([str(flag) for flag in flags])
        finally:
            torch.set_num_threads(threads)
        printed = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=printed.out, stderr=printed.err)

    return run


@pytest.fixture(scope="session")
def trained(shapes, tmp_path_factory):
    """One training run by a single process; its folder and what it printed."""
    output = tmp_path_factory.mktemp("trained")
    done = program(*training(shapes, output))
    assert done.returncode == 0, done.stderr
    return output, done.stdout


@pytest.fixture(scope="session")
def straight(shapes, tmp_path_factory):
    """A longer training without interruption, by one process."""
    output = tmp_path_factory.mktemp("straight")
    done = program(*training(shapes, output, *LONGER))
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="session")
def evaluated(shapes, trained, tmp_path_factory):
    """The last checkpoint, evaluated by a process of its own that also exports the features."""
    output = tmp_path_factory.mktemp("evaluated")
    flags = ("--contact_sheet", 3, "--export_features", output / "features.safetensors")
    done = program(*evaluation(shapes, trained[0] / "checkpoint_last.pt", output, *flags))
    assert done.returncode == 0, done.stderr
    return output


@pytest.fixture(scope="session")
def browser():
    """A real one, where one is installed."""
    # most tests do without
    from playwright.sync_api import expect, sync_playwright

    installed = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    program = next(installed, None)
    if program is None:
        pytest.skip("no Chromium or Chrome is installed")
    # As long as it takes on a busy machine
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox"], timeout=PATIENCE
        )
        yield started
        started.close()


@pytest.fixture(scope="session")
def axe():
    """The source of axe-core, which checks pages for what keeps people from using them."""
    return (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
