"""The benchmark of data, small: on real clips, with every figure and check."""

import json
import sys

import pytest
from clips import make_clip
from programs import run_program


def benchmark(folder, out, *flags):
    small = ("--clips", 5, "--max_frames", 3, "--resolution", 32, "--batch_size", 2)
    more = ("--repeats", 1, "--workers", "0,1", "--threads", 1, "--json", out)
    command = (sys.executable, "-m", "benchmarks.data", "--videos", folder)
    return run_program(*command, *small, *more, *flags)


def test_every_source_of_frames_is_timed_and_compared(tmp_path):
    out = tmp_path / "data.json"
    for number in range(5):
        make_clip(tmp_path / f"clip{number}.mp4", 9, size=(48, 64))
    done = benchmark(tmp_path, out)
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    names = [row["frames from"] for row in figures["decoding"]]
    assert names[0] == "decode with decord"
    assert [figures[f"clips bit for bit as with decord: {name}"] for name in names[1:]] == (
        ["5 of 5"] * 3
    )
    assert figures["frames of a clip"] == 3
    assert [row["processes"] for row in figures["loader"]] == [0, 1]
    for row in (*figures["decoding"], *figures["augmentation"], *figures["loader"]):
        speeds = [value for name, value in row.items() if name.endswith("clips/s")]
        assert speeds
        assert min(speeds) > 0
    for row in figures["decoding"]:
        assert row["ms per clip"] == pytest.approx(1000 / row["clips/s"])
    different = "values that are not as in PIL, %: batched tensors, cpu"
    assert figures[different] < 3


def test_a_folder_without_videos_is_refused(tmp_path):
    done = benchmark(tmp_path, tmp_path / "data.json")
    assert done.returncode == 2
    assert str(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr
