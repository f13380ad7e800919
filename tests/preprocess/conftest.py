"""A small set of scenes, rendered once for all tests of it."""

from pathlib import Path

import pytest
from media_helpers import SMALL_SCENES, run_script


@pytest.fixture(scope="session")
def scenes(tmp_path_factory) -> Path:
    """24 training and 15 test videos, and in `pretrain` 30 and 2 stills."""
    folder = tmp_path_factory.mktemp("scenes") / "set"
    done = run_script("make_scenes.py", "--output", folder, *SMALL_SCENES, "--workers", 2)
    assert done.returncode == 0, done.stderr
    return folder
