"""The search benchmark, small: its figures are what the engine itself says."""

import json
import sys

from programs import run_program
from small_index import folder_of_clips, opened, update, write_checkpoint

from tvr.search.engine import Engine


def benchmark(*command):
    done = run_program(sys.executable, "-m", "benchmarks.search", *command)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_recall_counts_the_neighbours_that_the_best_ten_need(tmp_path):
    videos, index = folder_of_clips(tmp_path / "videos"), tmp_path / "index"
    update(videos, index, opened(write_checkpoint(tmp_path / "model.pt")))
    queries, out = tmp_path / "queries.txt", tmp_path / "recall.json"
    queries.write_text("a red circle\nnoise\n")
    benchmark("--json", out, "recall", "--index", index, "--queries", queries)
    rows = json.loads(out.read_text())["rows"]
    assert [row["candidates"] for row in rows] == [7]
    assert rows[0]["recall of the best 10, %"] == 100
    best = Engine.open(index).search(["a red circle"], topk=7, exact=True)[0].hits
    assert sorted(hit.first_rank for hit in best) == list(range(1, 8))


def test_latency_of_two_sizes(tmp_path):
    sizes, out = ("20", "300"), tmp_path / "latency.json"
    small = ("--base_encoder", "tiny", "--frames", "2", "--queries", "2", "--candidates", "8")
    benchmark("--json", out, "latency", "--folder", tmp_path / "made", *small, "--sizes", *sizes)
    rows = json.loads(out.read_text())["rows"]
    assert [row["videos"] for row in rows] == [20, 300]
    assert all(0 < row["median ms"] <= row["95th percentile ms"] for row in rows)
    assert rows[1]["index on disk MiB"] > 5 * rows[0]["index on disk MiB"]
    assert Engine.open(tmp_path / "made" / "300").gallery == 300
