"""The shell scripts say what they need, and the demo's report reads what training writes."""

import json
import sys

import pytest
from programs import ROOT, run_program

BENCHMARKS = ("msrvtt", "msvd", "lsmdc", "didemo", "activitynet", "vatex")


@pytest.mark.parametrize("script", [*BENCHMARKS, "evaluate"])
def test_a_missing_path_is_named(script):
    command = ("bash", ROOT / f"scripts/{script}.sh", "checkpoint.pt")
    done = run_program(*command, VIDEO_PATH="", ANNO_PATH="anns")
    assert done.returncode == 2
    assert "VIDEO_PATH is not set" in done.stderr
    assert "ANNO_PATH is not set" not in done.stderr


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """One output folder for all smoke runs, so that they share the made-up videos."""
    return tmp_path_factory.mktemp("smoke")


@pytest.mark.parametrize("script", BENCHMARKS)
def test_every_benchmark_trains_and_evaluates_on_a_made_up_set(smoke, script):
    done = run_program("bash", ROOT / f"scripts/{script}.sh", SMOKE="1", OUTPUT=str(smoke))
    assert done.returncode == 0, done.stderr
    content = json.loads((smoke / "metrics.json").read_text())
    settings, protocol = content["settings"], content["protocol"]
    assert settings["datatype"] == ("activity" if script == "activitynet" else script)
    assert settings["correct"] == ("video" if script == "activitynet" else "text")
    assert settings["max_words"] == (64 if script in ("didemo", "activitynet") else 32)
    assert protocol["videos"] == 12
    assert not protocol["complete_gallery"]
    several = script in ("msvd", "vatex")
    assert (protocol["captions"] > protocol["videos"]) == several
    last, best = content["results"]
    assert last["t2v"]["MnR"] >= 1
    selects_on_test = script in ("msrvtt", "activitynet")
    assert best["label"].endswith("the test split itself" if selects_on_test else " val")
    assert ("validation" in best) != selects_on_test


def test_an_ablation_table_is_written_and_not_run_twice(shapes, tmp_path):
    command = (
        *("bash", ROOT / "scripts/ablations.sh", "query", "--anno_path", shapes / "anns"),
        *("--video_path", shapes / "videos_3fps", "--base_encoder", "tiny", "--epochs", 1),
        *("--num_hidden_layers", 1, "--max_frames", 1, "--max_words", 8, "--batch_size", 40),
        *("--allow_partial_gallery", 1, "--workers", 0, "--device", "cpu"),
    )
    environment = {"SEEDS": "1 2", "OUTPUT": str(tmp_path)}
    done = run_program(*command, **environment)
    assert done.returncode == 0, done.stderr
    table = (tmp_path / "query.md").read_text()
    assert table.count("±") == 1 + 2 * 6  # in the heading, and six numbers a row
    assert "paper" not in table  # a gallery of 13 is not the paper's
    assert 'SEEDS="1 2" bash scripts/ablations.sh query --anno_path' in table
    rows = (tmp_path / "query.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["row", "gap", "text"]
    before = (tmp_path / "0-seed1" / "checkpoint_last.pt").stat().st_mtime_ns
    assert run_program(*command, **environment).returncode == 0
    assert (tmp_path / "0-seed1" / "checkpoint_last.pt").stat().st_mtime_ns == before


def test_the_demo_report_puts_the_baseline_beside_gare(tmp_path):
    for name, recall in [("evaluation", 18.5), ("baseline", 12.0)]:
        metrics = {"R@1": recall, "R@5": 60.0, "R@10": 80.0, "R@1 95%": [recall - 5, recall + 5]}
        content = {"protocol": {"videos": 200}, "results": [{"t2v": metrics, "v2t": metrics}]}
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps(content))
    done = run_program(sys.executable, ROOT / "scripts/demo_report.py", tmp_path)
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line}
    assert lines["GARE"][1] == "18.5"
    assert lines["GARE"][-2] == "37"  # times chance: 18.5 % of 200
    assert lines["baseline"][1] == "12.0"
    for path in ("gare/checkpoint_last.pt", "evaluation/metrics.json", "contact_sheet.jpg"):
        assert path in done.stdout
