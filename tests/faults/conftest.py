"""Short and long form of the trials, and the rows of the table at the end."""

import sys

import pytest
from harness import HEAD, Trials, prepare_server
from programs import run_program
from tables import add_rows


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


@pytest.fixture(scope="session")
def validated_shapes(small_shapes, tmp_path_factory):
    """The same as VATEX, which has a validation split: the folder has `anns` and `videos`."""
    folder = tmp_path_factory.mktemp("validated")
    command = ("preprocess/shapes_formats.py", "--datatype", "vatex", "--output", folder / "vatex")
    source = ("--shapes", small_shapes, "--videos", small_shapes / "videos_3fps")
    done = run_program(sys.executable, *command, *source)
    assert done.returncode == 0, done.stderr
    return folder / "vatex"


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
    title = f"trials, seed {option('seed')}"
    add_rows(request.config, title, [HEAD, *(trials.row() for trials in made)])
