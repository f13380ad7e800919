"""Every kind of broken video comes to what docs/reliability.md says, with either decoder."""

import numpy as np
import pytest
from broken_videos import KINDS, SECONDS, make_all, not_root, outcome, read
from clips import shown_index
from programs import ROOT

from tvr.dataloaders.decoding import DecoderProcess
from tvr.dataloaders.reading import DECODERS, UnreadableVideo

both = pytest.mark.parametrize("decoder", DECODERS)
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("broken")
    # for the user without rights, who is not the one that runs the tests
    for parent in (folder, folder.parent):
        parent.chmod(0o755)
    return make_all(folder)


@pytest.fixture(scope="module")
def process():
    process = DecoderProcess(SECONDS)
    yield process
    process.close()


@pytest.fixture(scope="module")
def documented():
    """What the document says of each kind, by decoder."""
    text = (ROOT / "docs/reliability.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in text.split("\n") if line.startswith("| ")]
    return {
        cells[0]: dict(zip(DECODERS, cells[1:], strict=True)) for cells in rows if len(cells) == 3
    }


def may_lose_rights():
    try:
        with not_root():
            return True
    except PermissionError:
        return False


def test_the_document_knows_every_kind(documented):
    assert set(KINDS) <= set(documented)


@both
@every_kind
def test_the_outcome_is_the_documented_one(paths, process, documented, kind, decoder):
    if kind == "no permission" and not may_lose_rights():
        pytest.skip("root that may not become somebody else can read every file")
    assert outcome(kind, paths[kind], decoder, process) == documented[kind][decoder]


@both
@every_kind
def test_frames_are_those_of_the_file_and_errors_name_it(paths, process, kind, decoder):
    if kind == "no permission" and not may_lose_rights():
        pytest.skip("root that may not become somebody else can read every file")
    path, shows = paths[kind], KINDS[kind].shows
    if outcome(kind, path, decoder, process).startswith("error"):
        assert shows is None
        with pytest.raises(UnreadableVideo, match=f"^{path}: the video file "):
            read(kind, path, decoder, process)
        return
    frames_FHWC = read(kind, path, decoder, process).frames_FHWC
    assert frames_FHWC.dtype == np.uint8
    assert frames_FHWC.shape[3] == 3
    # one pixel has no room for a number
    if kind == "1 x 1 pixel":
        assert frames_FHWC.any()
        return
    assert shows is not None
    upright = np.rot90(frames_FHWC, -KINDS[kind].turn, axes=(1, 2))
    assert [shown_index(frame) for frame in upright] == list(shows)
