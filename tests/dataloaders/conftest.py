import json

import pytest
from clips import make_clip
from lists import write_lists


@pytest.fixture
def annotations(tmp_path):
    """Three training videos with two captions each and two test videos."""
    folder = tmp_path / "anns"
    folder.mkdir()
    train = ["video0", "video1", "video2"]
    write_lists(folder, train, [("video8", "a dog, a cat and a cow"), ("video9", "a man cooks")])
    rows = [
        {"video_id": v, "caption": f"{v} says {k}", "sen_id": i}
        for i, (k, v) in enumerate((k, v) for k in range(2) for v in [*train, "video8"])
    ]
    (folder / "MSRVTT_data.json").write_text(json.dumps({"sentences": rows}))
    return folder


@pytest.fixture
def videos(tmp_path):
    """A folder with one (empty) file per video of `annotations`, for tests that only look."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for i in (0, 1, 2, 8, 9):
        (folder / f"video{i}.mp4").touch()
    return folder


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """30 frames, 3 a second, 320x240: what the compression script makes of a 10 s clip."""
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", 30)
