"""The shell scripts train and evaluate with the right settings, and the demo's report."""

import json
import sys

import pytest
import torch
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
    """The OUTPUT of all smoke runs, so that they share the made-up videos; it has a real run."""
    folder = tmp_path_factory.mktemp("output")
    (folder / "checkpoint_last.pt").write_text("hours of work")
    return folder


def run_smoke(output, script, *flags, **environment):
    return run_program(
        *("bash", ROOT / f"scripts/{script}.sh", *flags),
        **{"SMOKE": "1", "OUTPUT": str(output), **environment},
    )


def smoked(output, script, datatype):
    """The folder of a benchmark's smoke run, which another test may have left."""
    folder = output / "smoke" / datatype
    if not (folder / "metrics.json").exists():
        assert run_smoke(output, script).returncode == 0
    return folder


@pytest.mark.parametrize("script", BENCHMARKS)
def test_every_benchmark_trains_and_evaluates_on_a_made_up_set(smoke, script):
    done = run_smoke(smoke, script)
    assert done.returncode == 0, done.stderr
    datatype = "activity" if script == "activitynet" else script
    content = json.loads((smoke / "smoke" / datatype / "metrics.json").read_text())
    settings, protocol = content["settings"], content["protocol"]
    long = script in ("didemo", "activitynet")
    expected = {
        "datatype": datatype,
        "correct": "video" if script == "activitynet" else "text",
        "context": "words" if script == "activitynet" else "frames",
        "max_words": 64 if long else 32,
        "max_frames": 64 if long else 12,
        "temp": 3,
    }
    assert {name: settings[name] for name in expected} == expected
    assert protocol["videos"] == 12
    assert not protocol["complete_gallery"]
    several = script in ("msvd", "vatex")
    assert (protocol["captions"] > protocol["videos"]) == several
    last, best = content["results"]
    assert last["t2v"]["MnR"] >= 1
    selects_on_test = script in ("msrvtt", "activitynet")
    assert best["label"].endswith("the test split itself" if selects_on_test else " val")
    assert ("validation" in best) != selects_on_test
    assert (smoke / "checkpoint_last.pt").read_text() == "hours of work"


def test_a_smoke_run_twice_is_no_mistake_but_never_replaces_a_real_run(smoke):
    smoked(smoke, "msrvtt", "msrvtt")
    assert run_smoke(smoke, "msrvtt").returncode == 0
    done = run_smoke(smoke, "msrvtt", "--output_dir", smoke)
    assert done.returncode == 2
    assert "of an earlier training run" in done.stderr
    assert (smoke / "checkpoint_last.pt").read_text() == "hours of work"


def test_a_smoke_run_has_its_own_folder_by_default(tmp_path):
    # a mistake ends the run before it has rendered anything but after the folder is chosen
    data = tmp_path / "ckpts/smoke/data/shapes"
    data.mkdir(parents=True)
    (data / "foreign.txt").write_text("make_shapes.py refuses this folder")
    done = run_program(
        "bash", ROOT / "scripts/msrvtt.sh", cwd=tmp_path, SMOKE="1", OUTPUT="", VIDEO_PATH=""
    )
    assert done.returncode == 2
    assert "ckpts/smoke/data/shapes" in done.stderr
    assert not (tmp_path / "ckpts/msrvtt").exists()


def test_one_process_needs_no_launcher_and_ends_with_its_message(tmp_path):
    done = run_program(
        *("bash", ROOT / "scripts/msrvtt.sh", "--batch_size", 1),
        **{"ANNO_PATH": "anns", "VIDEO_PATH": "videos", "OUTPUT": str(tmp_path), "GPUS": "1"},
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Use 2 or more" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("processes", ["0", "two"])
def test_a_number_of_processes_that_is_none_is_named(tmp_path, processes):
    paths = {"ANNO_PATH": "anns", "VIDEO_PATH": "videos", "OUTPUT": str(tmp_path)}
    done = run_program("bash", ROOT / "scripts/msrvtt.sh", GPUS=processes, **paths)
    assert done.returncode == 2
    assert f"GPUS={processes}" in done.stderr


def evaluate(smoke, datatype, *arguments, **environment):
    """evaluate.sh on the made-up set that the smoke run of the benchmark left."""
    data = smoke / "smoke/data" / datatype
    done = run_program(
        *("bash", ROOT / "scripts/evaluate.sh", *arguments, "--device", "cpu", "--workers", 0),
        *("--base_encoder", "tiny", "--allow_partial_gallery", 1, "--num_hidden_layers", 2),
        **{"ANNO_PATH": str(data / "anns"), "VIDEO_PATH": str(data / "videos")},
        **{"OUTPUT": str(smoke / "evaluation"), "DATATYPE": datatype, **environment},
    )
    assert done.returncode == 0, done.stderr
    return json.loads((smoke / "evaluation/metrics.json").read_text()), done.stdout


def test_a_checkpoint_of_ours_is_evaluated_with_its_own_settings(smoke):
    flags = ("--num_hidden_layers", 2, "--max_words", 40, "--max_frames", 5, "--temp", 4)
    assert run_smoke(smoke, "activitynet", *flags).returncode == 0
    checkpoint = smoke / "smoke/activity/checkpoint_last.pt"
    content, log = evaluate(smoke, "activity", checkpoint, GPUS="2")
    settings = content["settings"]
    assert content["processes"] == 2
    assert "but trained with" not in log
    assert (settings["max_words"], settings["max_frames"], settings["temp"]) == (40, 5, 4)
    assert (settings["correct"], settings["context"]) == ("video", "words")


def test_a_release_checkpoint_gets_the_settings_of_its_benchmark(smoke):
    folder = smoked(smoke, "activitynet", "activity")
    weights = torch.load(folder / "checkpoint_last.pt", weights_only=True)["model"]
    torch.save(weights, smoke / "bare.pt")
    settings = evaluate(smoke, "activity", smoke / "bare.pt", RELEASE="1")[0]["settings"]
    assert (settings["correct"], settings["context"]) == ("video", "words")
    assert (settings["max_words"], settings["max_frames"]) == (64, 64)
    assert (settings["padding"], settings["temp"]) == ("release", 3)


def test_without_a_checkpoint_clip_alone_is_evaluated_with_the_benchmark_s_sizes(smoke):
    smoked(smoke, "didemo", "didemo")
    content, log = evaluate(smoke, "didemo", "--workers", 0)
    assert content["results"][0]["label"].startswith("zero-shot")
    assert (content["settings"]["max_words"], content["settings"]["max_frames"]) == (64, 64)
    assert "--correct" not in log


def test_a_release_without_a_checkpoint_is_a_mistake():
    paths = {"ANNO_PATH": "anns", "VIDEO_PATH": "videos"}
    done = run_program("bash", ROOT / "scripts/evaluate.sh", RELEASE="1", **paths)
    assert done.returncode == 2
    assert "RELEASE=1 without a checkpoint" in done.stderr


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
    assert "gare/report.html" in done.stdout
