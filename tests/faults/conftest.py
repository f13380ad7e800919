"""Short and long form of the trials, and the table at the end."""

import sys

import pytest
from harness import Trials, prepare_server, table
from programs import run_program

ROWS = pytest.StashKey[list]()


@pytest.fixture(scope="session", autouse=True)
def _server():
    prepare_server("main_retrieval", "tvr.dataloaders.cache", "compress_video", "work")


@pytest.fixture(scope="session")
def small_shapes(tmp_path_factory):
    """12 training and 6 test videos, compressed: the folder has `anns` and `videos_3fps`."""
    folder = tmp_path_factory.mktemp("small")
    for script, *flags in (
        ("make_shapes.py", "--output", folder, "--train", 12, "--test", 6),
        (
            "compress_video.py",
            "--input_root",
            folder / "videos",
            "--output_root",
            folder / "videos_3fps",
        ),
    ):
        done = run_program(sys.executable, f"preprocess/{script}", *flags)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def trials(request):
    """`trials(scenario, short, long)`: so many in `make test`, and in `make faults`."""
    option = request.config.getoption
    made = []

    def make(scenario, short, long):
        count = short if option("trials") is None else round(long * option("trials") / 50)
        if not count:
            pytest.skip("in the long form only: make faults")
        made.append(Trials(scenario, option("seed"), count))
        return made[-1]

    yield make
    rows = request.config.stash.setdefault(ROWS, [])
    rows += [trials.row() for trials in made]


def pytest_terminal_summary(terminalreporter, config):
    if rows := config.stash.get(ROWS, []):
        terminalreporter.write_line(f"\nseed {config.getoption('seed')}\n\n{table(rows)}\n")
