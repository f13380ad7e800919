"""`main_retrieval.py --do_eval` as a user calls it: real processes, videos and files."""

import json
import shutil

import numpy as np
import pytest
import torch
from runs import LAUNCHERS, SMALL, data, evaluation, program, results, training, weights
from safetensors.torch import load_file


def test_evaluation_in_a_new_process_gives_the_same_metrics(trained, evaluated):
    content, metrics = results(evaluated)
    assert metrics[0] == results(trained[0])[1][0]
    assert (content["results"][0]["epoch"], content["results"][0]["step"]) == (1, 10)
    assert (evaluated / "contact_sheet.jpg").stat().st_size > 10_000


def test_the_literal_score_gives_the_same_metrics(call, shapes, trained, evaluated, tmp_path):
    checkpoint = trained[0] / "checkpoint_last.pt"
    done = call(*evaluation(shapes, checkpoint, tmp_path, "--scoring", "literal"))
    assert done.returncode == 0, done.stderr
    assert results(tmp_path)[1] == results(evaluated)[1]


@pytest.mark.parametrize(("world_size", "batch"), [(2, 4), (3, 128)])
def test_every_process_count_gives_the_same_metrics(
    shapes, trained, evaluated, tmp_path, world_size, batch
):
    # 13 videos in batches of 4 are shares of unequal size; in batches of 128 two ranks have none
    launcher = (*LAUNCHERS["torchrun"], f"--nproc_per_node={world_size}")
    exported = tmp_path / "features.safetensors"
    flags = ("--batch_size_val", batch, "--export_features", exported)
    checkpoint = trained[0] / "checkpoint_last.pt"
    done = program(*evaluation(shapes, checkpoint, tmp_path, *flags), launcher=launcher)
    assert done.returncode == 0, done.stderr
    assert results(tmp_path)[1] == results(evaluated)[1]
    one, many = load_file(evaluated / exported.name), load_file(exported)
    assert one.keys() == many.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(many[name], tensor, atol=1e-5, rtol=1e-5, msg=name)


def test_checkpoint_settings_are_adopted_unless_given(call, shapes, tmp_path):
    done = call(*training(shapes, tmp_path / "t", "--temp", 3, "--agg_module", "seqLSTM"))
    assert done.returncode == 0, done.stderr
    checkpoint = tmp_path / "t" / "checkpoint_best.pt"
    plain = call(*evaluation(shapes, checkpoint, tmp_path / "e"))
    assert plain.returncode == 0, plain.stderr
    assert results(tmp_path / "e")[0]["settings"]["temp"] == 3
    assert "--temp 3.0, as" in plain.stdout
    written = json.loads((tmp_path / "e" / "config.json").read_text())
    assert (written["settings"]["temp"], written["settings"]["agg_module"]) == (3, "seqLSTM")
    given = call(*evaluation(shapes, checkpoint, tmp_path / "g", "--temp", 4))
    assert results(tmp_path / "g")[0]["settings"]["temp"] == 4
    assert "trained with 3.0" in given.stdout


@pytest.mark.parametrize("more", [(), ("--resume", "auto")])
def test_an_evaluation_leaves_a_trainings_folder_as_it_is(call, shapes, trained, tmp_path, more):
    folder = shutil.copytree(trained[0], tmp_path / "t")
    before = {path: path.read_bytes() for path in folder.glob("*.*") if path.name != "log.txt"}
    done = call(*evaluation(shapes, folder / "checkpoint_last.pt", folder, *more))
    assert done.returncode == 2, done.stderr
    assert "Choose another folder, or --overwrite 1" in done.stderr
    assert {path: path.read_bytes() for path in before} == before


def test_post_processing_is_reported_beside_the_raw_scores(call, shapes, trained, tmp_path):
    flags = ("--dual_softmax", 0.05, "--sinkhorn", 0.05, "--qb_norm", 0.05, "--qb_bank", 50)
    done = call(*evaluation(shapes, trained[0] / "checkpoint_last.pt", tmp_path, *flags))
    assert done.returncode == 0, done.stderr
    content, both = results(tmp_path)
    labels = [result["label"] for result in content["results"]]
    assert labels[0] == "evaluated"
    assert [label.split(", ")[1].split()[0] for label in labels[1:]] == [
        *("dual_softmax", "sinkhorn", "qb_norm"),
    ]
    assert both[0] == results(trained[0])[1][0]
    assert both[1]["t2v"] != both[0]["t2v"]
    assert both[3]["v2t"] == both[0]["v2t"]
    assert "with 50 training captions" in labels[3]


def test_clip_alone_is_evaluated_without_a_checkpoint(call, shapes, tmp_path):
    flags = ("--do_eval", 1, *SMALL, *data(shapes), "--output_dir", tmp_path, "--eta", -1)
    done = call(*flags)
    assert done.returncode == 0, done.stderr
    content, both = results(tmp_path)
    labels = [result["label"] for result in content["results"]]
    assert labels == ["zero-shot, mean of the frames", "zero-shot, text-conditioned pooling"]
    assert content["settings"]["increment"] == "none"
    assert content["settings"]["agg_module"] == "None"
    assert all(np.isfinite(result["t2v"]["MnR"]) for result in both)
    assert "--eta -1 has no effect" in done.stdout


def test_release_checkpoint_is_evaluated(call, shapes, trained, tmp_path):
    from tvr.models.release import RENAMED

    release = {"weight_fc.weight": torch.zeros(2, 2)}
    for name, tensor in weights(trained[0]).items():
        for theirs, ours in RENAMED.items():
            if name.startswith(ours):
                name = theirs + name.removeprefix(ours)
                break
        release["module." + name] = tensor
        if name.startswith("psi."):
            release["module.agent." + name] = tensor
    torch.save(release, tmp_path / "release.bin")
    done = call(*evaluation(shapes, tmp_path / "release.bin", tmp_path / "e"))
    assert done.returncode == 0, done.stderr
    assert results(tmp_path / "e")[1][0] == results(trained[0])[1][0]
    assert "weight_fc.weight" in done.stdout
    assert "carries no settings" in done.stdout
    assert "agent.psi.mean_proj.weight" in done.stdout
