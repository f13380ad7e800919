"""The shell scripts say what they need, and the demo's report reads what training writes."""

import json
import sys

import pytest
from programs import ROOT, run_program


@pytest.mark.parametrize("script", ["msrvtt.sh", "evaluate.sh"])
def test_a_missing_path_is_named(script):
    done = run_program("bash", ROOT / "scripts" / script, "checkpoint.pt", VIDEO_PATH="")
    assert done.returncode == 2
    assert "VIDEO_PATH is not set" in done.stderr


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
