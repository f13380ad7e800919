"""What `main_retrieval.py` refuses: one message, exit code 2, nothing lost."""

import shutil

import pytest
import torch
from programs import ROOT
from runs import LAUNCHERS, evaluation, program, training


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
    assert not (tmp_path / "o" / "metrics.json").exists()


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
