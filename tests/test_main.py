"""`main_retrieval.py --do_train` as a user calls it: real processes, videos and files."""

import numpy as np
import pytest
import torch
from runs import LAUNCHERS, program, results, training, weights


def test_training_leaves_checkpoints_log_and_metrics(trained):
    output, printed = trained
    content, _ = results(output)
    assert {path.name for path in output.iterdir()} == {
        *("checkpoint_last.pt", "checkpoint_best.pt", "state_00000010.pt"),
        *("metrics.json", "metrics.jsonl", "config.json", "log.txt", "tensorboard"),
        *("rankings_last.csv", "rankings_best.csv", "report.html"),
    }
    assert content["protocol"]["videos"] == 13
    assert content["protocol"]["documented_videos"] == 1000
    assert not content["protocol"]["complete_gallery"]
    assert not content["protocol"]["complete_training"]
    assert content["settings"]["beta"] == 0.07
    assert [r["label"].split()[0] for r in content["results"]] == ["last", "best"]
    for part in ("nce", "ib", "epsilon", "dir", "scale", "grad_norm", "lr", "clips/s", "ETA"):
        assert f" {part}" in printed, part
    assert "24 of 9,000 videos" in printed
    assert (output / "log.txt").read_text().count("clips/s") == printed.count("clips/s")


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_two_processes_train_the_same_model_as_one(shapes, trained, tmp_path, launcher):
    command = (*LAUNCHERS[launcher], "--nproc_per_node=2")
    done = program(*training(shapes, tmp_path), launcher=command)
    assert done.returncode == 0, done.stderr
    one, two = weights(trained[0]), weights(tmp_path)
    for name, tensor in one.items():
        # Adam divides by the gradient's own size, so a parameter whose gradient is rounding
        # noise alone (ψ's key bias) walks at random: at most lr per step
        tolerance = 5e-3 if name == "psi.key.bias" else 2e-4
        torch.testing.assert_close(two[name], tensor, atol=tolerance, rtol=1e-3, msg=name)


def test_a_seed_fixes_a_run_bit_for_bit(shapes, trained, tmp_path):
    # The number of loader processes must not matter
    done = program(*training(shapes, tmp_path, "--workers", 2))
    assert done.returncode == 0, done.stderr
    one, two = weights(trained[0]), weights(tmp_path)
    assert all(torch.equal(two[name], tensor) for name, tensor in one.items())


def test_another_seed_is_another_run(call, shapes, trained, tmp_path):
    done = call(*training(shapes, tmp_path, "--seed", 7))
    assert done.returncode == 0, done.stderr
    name = "psi.mean.weight"
    assert not torch.equal(weights(tmp_path)[name], weights(trained[0])[name])


def test_variants_train(call, shapes, tmp_path):
    variants = {
        "paper's other side": ("--correct", "video", "--context", "words", "--eta", -1),
        "release": (
            *("--padding", "release", "--kl", "joint", "--decay", "release"),
            *("--grad_clip", "release", "--precision", "fp16"),
        ),
        "baseline in bf16": ("--increment", "none", "--precision", "amp"),
        "losses": (
            *("--dir_form", "orthogonal", "--epsilon_form", "smooth", "--kl_anchor", "text"),
            *("--kl_normalize", 1, "--same_video", "ignore", "--agg_module", "seqLSTM"),
        ),
        "opencv": ("--video_decoder", "opencv", "--agg_module", "None", "--query", "text"),
    }
    for name, flags in variants.items():
        # 3 steps of 40 pairs are enough to see whether it runs
        done = call(*training(shapes, tmp_path / name, "--batch_size", 40, *flags))
        assert done.returncode == 0, (name, done.stderr)
        _, both = results(tmp_path / name)
        assert np.isfinite(both[0]["t2v"]["MnR"])
