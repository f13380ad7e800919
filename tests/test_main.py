"""`main_retrieval.py` as a user calls it: real processes, real videos, real files."""

import json
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from programs import ROOT, run_program

from main_retrieval import main

MAIN = str(ROOT / "main_retrieval.py")
SMALL = (
    *("--base_encoder", "tiny", "--num_hidden_layers", 2, "--max_frames", 3, "--max_words", 16),
    *("--workers", 1, "--allow_partial_gallery", 1, "--batch_size_val", 4, "--device", "cpu"),
)
LAUNCHERS = {
    "torchrun": ("-m", "torch.distributed.run", "--standalone"),
    "launch": ("-m", "torch.distributed.launch", "--master_port", 29517),
}


def data(shapes):
    return ("--anno_path", shapes / "anns", "--video_path", shapes / "videos_3fps")


def training(shapes, output, *flags):
    """The flags of a short training run."""
    return (
        *("--do_train", 1, "--epochs", 1, "--batch_size", 12, "--n_display", 3),
        *("--lr", 1e-3, "--coef_lr", 1, *SMALL, *data(shapes), "--output_dir", output, *flags),
    )


def evaluation(shapes, checkpoint, output, *flags):
    """The flags of an evaluation."""
    return (
        *("--do_eval", "--init_model", checkpoint, *SMALL, *data(shapes)),
        *("--output_dir", output, *flags),
    )


def program(*flags, launcher=()):
    """`main_retrieval.py` in processes of its own."""
    return run_program(sys.executable, *launcher, MAIN, *flags)


@pytest.fixture
def call(capsys):
    """`main_retrieval.py` in this process, which saves its seconds of imports."""

    def run(*flags):
        code = main([str(flag) for flag in flags])
        printed = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=printed.out, stderr=printed.err)

    return run


def results(folder):
    content = json.loads((folder / "metrics.json").read_text())
    return content, [{k: r[k] for k in ("t2v", "v2t")} for r in content["results"]]


@pytest.fixture(scope="session")
def trained(shapes, tmp_path_factory):
    """One training run by a single process; its folder and what it printed."""
    output = tmp_path_factory.mktemp("trained")
    done = program(*training(shapes, output))
    assert done.returncode == 0, done.stderr
    return output, done.stdout


def weights(folder, name="checkpoint_last.pt"):
    return torch.load(folder / name, weights_only=True)["model"]


def test_training_leaves_checkpoints_log_and_metrics(trained):
    output, printed = trained
    content, _ = results(output)
    assert {"checkpoint_last.pt", "checkpoint_best.pt", "metrics.json", "log.txt"} == {
        path.name for path in output.iterdir()
    }
    assert content["protocol"]["videos"] == 13
    assert content["protocol"]["documented_videos"] == 1000
    assert not content["protocol"]["complete_gallery"]
    assert content["settings"]["beta"] == 0.07
    assert [r["label"].split()[0] for r in content["results"]] == ["last", "best"]
    for part in ("nce", "ib", "epsilon", "dir", "scale", "grad_norm", "lr", "clips/s", "ETA"):
        assert f" {part}" in printed, part
    assert "24 of 9,000 videos" in printed
    assert (output / "log.txt").read_text().count("clips/s") == printed.count("clips/s")


def test_evaluation_in_a_new_process_gives_the_same_metrics(shapes, trained, tmp_path):
    output, _ = trained
    sheet = ("--contact_sheet", 3)
    done = program(*evaluation(shapes, output / "checkpoint_last.pt", tmp_path, *sheet))
    assert done.returncode == 0, done.stderr
    assert results(tmp_path)[1][0] == results(output)[1][0]
    assert (tmp_path / "contact_sheet.jpg").stat().st_size > 10_000


@pytest.mark.parametrize(("world_size", "batch"), [(2, 4), (3, 128)])
def test_every_process_count_gives_the_same_metrics(shapes, trained, tmp_path, world_size, batch):
    # 13 videos in batches of 4 are shares of unequal size; in batches of 128 two ranks have none
    launcher = (*LAUNCHERS["torchrun"], f"--nproc_per_node={world_size}")
    flags = evaluation(
        shapes, trained[0] / "checkpoint_last.pt", tmp_path, "--batch_size_val", batch
    )
    done = program(*flags, launcher=launcher)
    assert done.returncode == 0, done.stderr
    assert results(tmp_path)[1][0] == results(trained[0])[1][0]


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


def test_checkpoint_settings_are_adopted_unless_given(call, shapes, tmp_path):
    done = call(*training(shapes, tmp_path / "t", "--temp", 3, "--agg_module", "seqLSTM"))
    assert done.returncode == 0, done.stderr
    checkpoint = tmp_path / "t" / "checkpoint_best.pt"
    plain = call(*evaluation(shapes, checkpoint, tmp_path / "e"))
    assert plain.returncode == 0, plain.stderr
    assert results(tmp_path / "e")[0]["settings"]["temp"] == 3
    assert "--temp 3.0, as" in plain.stdout
    given = call(*evaluation(shapes, checkpoint, tmp_path / "g", "--temp", 4))
    assert results(tmp_path / "g")[0]["settings"]["temp"] == 4
    assert "trained with 3.0" in given.stdout


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


def refused(done, *parts):
    """Exit code 2, one message with these parts, and no traceback."""
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error:") == 1, done.stderr
    for part in parts:
        assert str(part) in done.stderr, done.stderr


@pytest.fixture
def copy(shapes, tmp_path):
    """The data set again, to be damaged."""
    return shutil.copytree(shapes, tmp_path / "copy")


def test_missing_folders(call, shapes, tmp_path):
    gone = tmp_path / "gone"
    refused(call(*training(shapes, tmp_path / "o", "--anno_path", gone)), "--anno_path", gone)
    refused(call(*training(shapes, tmp_path / "o", "--video_path", gone)), "--video_path", gone)
    assert not list((tmp_path / "o").glob("*.pt"))


def test_missing_videos_are_listed_before_the_first_step(call, copy, tmp_path):
    for i in range(12):
        (copy / "videos_3fps" / f"video{i}.mp4").unlink()
    done = call(*training(copy, tmp_path / "o"))
    refused(done, "12 of the 24 train videos", "video0", "video9", "--video_path")
    assert "clips/s" not in done.stdout


def test_unreadable_video(call, copy, tmp_path):
    (copy / "videos_3fps" / "video3.mp4").write_text("<html>404</html>")
    done = call(*training(copy, tmp_path / "o", "--workers", 2))
    refused(done, "video3.mp4")
    assert not list((tmp_path / "o").glob("*.pt"))
    assert not list((tmp_path / "o").glob("*.json"))


def test_unreadable_video_that_only_one_process_meets(copy, tmp_path):
    (copy / "videos_3fps" / "video30.mp4").write_text("<html>404</html>")
    launcher = (*LAUNCHERS["torchrun"], "--nproc_per_node=2")
    done = program(*training(copy, tmp_path / "o"), launcher=launcher)
    assert done.returncode != 0
    messages = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert sum("video30.mp4" in message for message in messages) == 1, done.stderr
    # The other process may see the connection close before the launcher stops it
    assert all("video30.mp4" in m or "another process" in m for m in messages), messages
    assert "main_retrieval.py" not in done.stderr.split("error: ")[-1].split("=====")[0]


def test_caption_that_is_empty(call, copy, tmp_path):
    path = copy / "anns" / "MSRVTT_JSFUSION_test.csv"
    lines = path.read_text().splitlines()
    lines[2] = lines[2].rsplit(",", 1)[0] + ","
    path.write_text("\n".join(lines) + "\n")
    refused(call(*training(copy, tmp_path / "o")), "MSRVTT_JSFUSION_test.csv")


def test_gallery_of_another_size(call, shapes, tmp_path):
    done = call(*training(shapes, tmp_path / "o", "--allow_partial_gallery", 0))
    refused(done, "13", "1,000", "--allow_partial_gallery 1")


def test_checkpoint_of_another_width(call, shapes, trained, tmp_path):
    content = torch.load(trained[0] / "checkpoint_last.pt", weights_only=True)
    content["model"]["psi.mean.weight"] = torch.zeros(64, 64)
    torch.save(content, tmp_path / "wide.pt")
    done = call(*evaluation(shapes, tmp_path / "wide.pt", tmp_path / "o"))
    refused(done, "wide.pt", "psi.mean.weight", "(64, 64)", "(128, 128)")


def test_checkpoint_that_is_missing_or_damaged(call, shapes, trained, tmp_path):
    refused(call(*evaluation(shapes, tmp_path / "no.pt", tmp_path / "o")), "no.pt", "no such file")
    whole = (trained[0] / "checkpoint_last.pt").read_bytes()
    (tmp_path / "half.pt").write_bytes(whole[: len(whole) // 2])
    refused(call(*evaluation(shapes, tmp_path / "half.pt", tmp_path / "o")), "half.pt", "damaged")


def test_wrong_checksum_of_the_clip_weights(call, shapes, tmp_path):
    place = ROOT / "tvr/models/ViT-B-16.pt"
    if place.exists():
        pytest.skip("real weights are there")
    place.write_bytes(b"not CLIP")
    try:
        done = call(*training(shapes, tmp_path / "o", "--base_encoder", "ViT-B/16"))
    finally:
        place.unlink()
    refused(done, "ViT-B-16.pt", "wrong checksum", "5806e77cd80f8b59890b7e101eabd078")


def test_batch_that_the_processes_do_not_divide(shapes, tmp_path):
    launcher = (*LAUNCHERS["torchrun"], "--nproc_per_node=2")
    done = program(*training(shapes, tmp_path / "o", "--batch_size", 13), launcher=launcher)
    assert done.returncode != 0
    assert done.stderr.count("--batch_size 13") == 1
    assert "Use 12 or 14" in done.stderr


def test_batch_of_one_and_batch_above_the_data(call, shapes, tmp_path):
    refused(
        call(*training(shapes, tmp_path / "o", "--batch_size", 1)), "--batch_size 1", "at least 2"
    )
    many = call(*training(shapes, tmp_path / "o", "--batch_size", 999))
    refused(many, "--batch_size 999", "120")


def test_an_evaluation_does_not_replace_the_report_of_a_training(call, shapes, trained):
    before = (trained[0] / "metrics.json").read_bytes()
    done = call(*evaluation(shapes, trained[0] / "checkpoint_last.pt", trained[0]))
    refused(done, "checkpoint_last.pt", "--output_dir")
    assert (trained[0] / "metrics.json").read_bytes() == before


def test_earlier_checkpoints_are_not_overwritten(call, shapes, trained):
    before = (trained[0] / "checkpoint_last.pt").read_bytes()
    refused(call(*training(shapes, trained[0])), "checkpoint_last.pt", "--overwrite 1")
    assert (trained[0] / "checkpoint_last.pt").read_bytes() == before
