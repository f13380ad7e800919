"""Runs whose report cannot be made or written: nothing else is lost."""

import json
import os
import sys

from runs import data, evaluation, training

from tvr.config import Config
from tvr.rankings import read_rankings
from tvr.resume import FREE


def test_a_report_that_cannot_be_written_ends_with_the_results_there(
    call, shapes, trained, tmp_path
):
    (tmp_path / "report.html").mkdir()
    done = call(*evaluation(shapes, trained[0] / "checkpoint_last.pt", tmp_path))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path}/report.html: cannot be written")
    assert done.stderr.count("\n") == 1
    assert json.loads((tmp_path / "metrics.json").read_text())["results"]
    assert (tmp_path / "rankings_evaluated.csv").is_file()
    assert not list(tmp_path.glob(".*"))


def test_a_run_that_cannot_be_reported_on_says_why(call, shapes, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = call(*training(shapes, tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    last = done.stdout.rstrip().splitlines()[-1]
    assert "warning: no report.html: matplotlib: " in last
    assert "pip install -r requirements.txt" in last
    assert not (tmp_path / "report.html").exists()


def test_a_video_that_breaks_after_the_evaluation_has_no_preview(call, shapes, trained, tmp_path):
    """The frames come from a cache, so that only the report needs the files."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for path in (shapes / "videos_3fps").glob("*.mp4"):
        (videos / path.name).write_bytes(path.read_bytes())
    flags = ("--video_path", videos, "--decode_timeout", 5, "--frame_cache", tmp_path / "cache")
    checkpoint = trained[0] / "checkpoint_last.pt"
    done = call(*evaluation(shapes, checkpoint, tmp_path / "one"), *flags)
    assert done.returncode == 0, done.stderr
    assert "no preview" not in (tmp_path / "one" / "report.html").read_text()
    worst = max(read_rankings(tmp_path / "one" / "rankings_evaluated.csv"), key=lambda r: r.rank)
    broken = videos / f"{worst.target.partition('#')[0]}.mp4"
    stat = broken.stat()
    broken.write_bytes(bytes(stat.st_size))
    os.utime(broken, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    done = call(*evaluation(shapes, checkpoint, tmp_path / "two"), *flags)
    assert done.returncode == 0, done.stderr
    assert "no preview" in (tmp_path / "two" / "report.html").read_text()


def test_how_many_examples_does_not_make_another_training():
    assert "report_examples" in FREE
    assert Config().report_examples == 6


def test_a_negative_number_of_examples_is_refused(call, shapes, tmp_path):
    flags = ("--do_eval", 1, *data(shapes), "--output_dir", tmp_path, "--report_examples", -1)
    done = call(*flags)
    assert done.returncode == 2
    assert "--report_examples -1: give at least 0." in done.stderr
