"""A small MSR-VTT of made-up videos, in its own file formats, shared by the end-to-end tests."""

import sys

import pytest
from programs import run_program


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
