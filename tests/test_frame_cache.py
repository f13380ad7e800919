"""`--frame_cache` in training and evaluation: the same numbers, whatever happens to the cache."""

import os
import shutil

import pytest
import torch
from caches import lines, make_read_only, mounted, spoil
from runs import LAUNCHERS, evaluation, program, results, training, weights

VIDEOS = 24 + 13


@pytest.fixture
def own(shapes, tmp_path):
    """The shapes again, to be changed."""
    return shutil.copytree(shapes, tmp_path / "shapes")


def assert_same_training(folder, trained):
    assert results(folder)[1] == results(trained[0])[1]
    ours, theirs = weights(folder), weights(trained[0])
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_training_is_the_same_without_decoding(call, own, trained, tmp_path):
    cache = tmp_path / "cache"
    flags = ("--frame_cache", cache, "--workers", 2)
    done = call(*training(own, tmp_path / "cold", *flags))
    assert done.returncode == 0, done.stderr
    assert f"frame cache {cache}: 0 clips with these settings" in done.stdout
    assert f"frame cache {cache}: this run's clips may need 3.1 MB more, " in done.stdout
    assert len(lines(cache)) >= VIDEOS
    assert f"frame cache {cache}: {len(lines(cache))} entries added" in done.stdout
    assert_same_training(tmp_path / "cold", trained)
    for path in (own / "videos_3fps").glob("*.mp4"):
        spoil(path)
    done = call(*training(own, tmp_path / "warm", *flags))
    assert done.returncode == 0, done.stderr
    assert f"frame cache {cache}: {VIDEOS} clips with these settings; " in done.stdout
    assert "entries added" not in done.stdout
    assert_same_training(tmp_path / "warm", trained)


def test_several_ranks_fill_it_together(shapes, trained, evaluated, tmp_path):
    launcher = (*LAUNCHERS["torchrun"], "--nproc_per_node=2")
    flags = evaluation(shapes, trained[0] / "checkpoint_last.pt", tmp_path / "o")
    done = program(*flags, "--frame_cache", tmp_path / "cache", launcher=launcher)
    assert done.returncode == 0, done.stderr
    assert results(tmp_path / "o")[1] == results(evaluated)[1]
    assert len(lines(tmp_path / "cache")) == 13
    assert len(list((tmp_path / "cache").glob("*.index"))) == 2
    assert done.stdout.count("cache: 13 entries added") == 1


def test_damaged_entries_are_counted(call, shapes, trained, evaluated, tmp_path):
    cache = tmp_path / "cache"
    flags = evaluation(shapes, trained[0] / "checkpoint_last.pt", tmp_path / "o")
    assert call(*flags, "--frame_cache", cache).returncode == 0
    (shard,) = cache.glob("*.frames")
    os.truncate(shard, shard.stat().st_size - 1)
    done = call(*flags, "--frame_cache", cache)
    assert "cache: 1 entries added, 1 of them in place of damaged entries" in done.stdout
    assert results(tmp_path / "o")[1] == results(evaluated)[1]


def test_a_full_disk_does_not_end_a_training(call, shapes, trained, tmp_path):
    with mounted(tmp_path / "disk", "size=1m") as disk:
        done = call(*training(shapes, tmp_path / "o", "--frame_cache", disk, "--workers", 2))
    assert done.returncode == 0, done.stderr
    assert f"warning: frame cache {disk}: this run's clips may need 3.1 MB more, 1.0 MB" in (
        done.stdout
    )
    said = "cannot be written any more (No space left on device). Clips that are not in it"
    assert done.stdout.count(said) == 1
    assert_same_training(tmp_path / "o", trained)


def test_a_cache_that_cannot_be_written(call, shapes, trained, evaluated, tmp_path):
    flags = evaluation(shapes, trained[0] / "checkpoint_last.pt", tmp_path / "o")
    with mounted(tmp_path / "disk") as disk:
        make_read_only(disk)
        done = call(*flags, "--frame_cache", disk)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("warning: frame cache") == 1
    assert "cannot be written (Read-only file system)" in done.stdout
    assert results(tmp_path / "o")[1] == results(evaluated)[1]


def test_a_folder_that_is_no_cache_is_refused_with_all_other_problems(call, shapes, tmp_path):
    flags = training(shapes, tmp_path / "o", "--frame_cache", shapes, "--epochs", 0)
    done = call(*flags)
    assert done.returncode == 2
    assert "error: 2 problems with the settings:" in done.stderr
    assert f"  - --frame_cache {shapes}: not a frame cache, and not empty" in done.stderr
    assert not (tmp_path / "o").exists()
