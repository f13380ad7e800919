"""`python -m tvr.analysis` as a user calls it: names, folders, mistakes, the same bytes twice."""

import shutil
import sys

import pytest
import torch
from figure_files import rows_of
from programs import run_program
from runs import SMALL, data

from tvr.analysis.__main__ import BY_NUMBER, FIGURES

ALL = sorted(FIGURES)
ONE = ("--batches", 1)


def test_numbers_are_the_papers():
    expected = dict.fromkeys("247", "gradients") | {"3": "positives", "5": "ablations"}
    expected |= {"6": "hard_negatives", "8": "geometry", "9": "steps"}
    assert expected == BY_NUMBER


def test_help_says_what_each_figure_shows(capsys, analyse):
    with pytest.raises(SystemExit) as end:
        analyse("--help")
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown and figure.shows in shown for name, figure in FIGURES.items())


def test_all_that_a_run_has_and_why_not_the_rest(logged, baseline, shapes):
    """By a process of its own, from another folder; the run's folder gets what it made."""
    flags = ("--run", logged, "--baseline", baseline, *ONE, "--workers", 1, "--device", "cpu")
    done = run_program(sys.executable, "-m", "tvr.analysis", "all", *flags)
    assert done.returncode == 0, done.stderr
    made = [name for name in ALL if name != "ablations"]
    assert sorted(p.stem for p in (logged / "analysis").glob("*.png")) == made
    for name in made:
        assert rows_of(logged / "analysis", name)
        assert f"{logged}/analysis/{name}.csv" in done.stdout
    assert done.stderr.count("not made:") == 1
    assert "not made: ablations: " in done.stderr


def test_all_of_a_checkpoint_file_without_a_baseline(trained, analyse, tmp_path):
    """What a file alone has not is no failure."""
    file = shutil.copy(trained[0] / "checkpoint_last.pt", tmp_path)
    done = analyse("all", "--run", file, *ONE)
    assert done.code == 0, done.err
    made = sorted(path.stem for path in (tmp_path / "analysis").glob("*.csv"))
    assert made == ["gradients", "hard_negatives", "steps"]
    for name in ("ablations", "geometry", "positives"):
        assert f"not made: {name}: " in done.err


def test_all_fails_where_a_figure_does_that_the_run_should_have(logged, analyse, tmp_path):
    flags = ("--video_path", tmp_path / "nowhere", "--output", tmp_path / "out")
    done = analyse("all", "--run", logged, *flags)
    assert done.code == 2
    assert "geometry.png" in done.out
    assert done.err.count("nowhere") >= 3


def test_the_same_command_writes_the_same_bytes(trained, analyse, tmp_path):
    for output in ("one", "two"):
        done = analyse("2", "--run", trained[0], *ONE, "--output", tmp_path / output)
        assert done.code == 0, done.err
    for name in ("gradients.png", "gradients.csv"):
        one, two = ((tmp_path / output / name).read_bytes() for output in ("one", "two"))
        assert one == two


def test_flags_given_win_over_the_checkpoints(trained, analyse, tmp_path):
    """Smaller batches: more of them, and another order of captions with another seed."""
    found = {}
    for name, flags in {"a": (), "b": ("--batch_size", 6), "c": ("--seed", 7)}.items():
        done = analyse("4", "--run", trained[0], *ONE, *flags, "--output", tmp_path / name)
        assert done.code == 0, done.err
        found[name] = (done.out.splitlines()[1], (tmp_path / name / "gradients.csv").read_bytes())
    anchors = {name: line.split()[0] for name, (line, _) in found.items()}
    assert anchors == {"a": "12", "b": "6", "c": "12"}
    assert len({table for _, table in found.values()}) == 3


def test_the_best_checkpoint_or_one_by_its_name(trained, analyse, tmp_path):
    for which in ("best", trained[0] / "checkpoint_best.pt"):
        flags = ("--checkpoint", which, *ONE, "--output", tmp_path)
        done = analyse("7", "--run", trained[0], *flags)
        assert done.code == 0, done.err
        assert "checkpoint_best.pt" in done.out


def test_weights_without_settings_are_told_them(trained, shapes, analyse, tmp_path):
    """As a checkpoint of the authors' has none: model, data and losses come from the flags."""
    content = torch.load(trained[0] / "checkpoint_last.pt", weights_only=True)
    file = tmp_path / "bare.pt"
    torch.save(content["model"], file)
    done = analyse("gradients", "--run", file, "--base_encoder", "tiny", "--num_hidden_layers", 2)
    assert done.code == 2
    assert "names no data: give --anno_path and --video_path" in done.err
    own = [str(flag) for flag in SMALL]
    kept = own[: own.index("--workers")]
    flags = (*kept, "--allow_partial_gallery", 1, "--batch_size", 12, *data(shapes))
    done = analyse("gradients", "--run", file, *flags, *ONE)
    assert done.code == 0, done.err
    assert "carries no settings" in done.err
    assert rows_of(tmp_path / "analysis", "gradients")


def test_a_flag_that_a_figure_does_not_read_is_said(logged, analyse, tmp_path):
    done = analyse("geometry", "--run", logged, "--queries", 3, "--output", tmp_path)
    assert done.code == 0
    assert "warning: --queries has no effect on geometry" in done.err


MISTAKES = {
    "no such figure": (("10", "--run", "."), "FIGURE"),
    "no run": (("gradients",), "--run"),
    "run is nowhere": (("gradients", "--run", "/nowhere"), "--run /nowhere: no such folder"),
    "nothing to count": (("2", "--run", ".", "--batches", "0"), "--batches"),
    "unknown flag": (("2", "--run", ".", "--batch", "3"), "--batch"),
}


@pytest.mark.parametrize(("flags", "said"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_message(flags, said, analyse):
    done = analyse(*flags)
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert said in done.err
    assert done.out == ""


def test_mistakes_about_checkpoints(trained, analyse, tmp_path):
    file = trained[0] / "checkpoint_last.pt"
    bad = tmp_path / "bad.pt"
    bad.write_bytes(b"no checkpoint")
    (tmp_path / "empty").mkdir()
    wrong = tmp_path / "wrong.pt"
    content = torch.load(file, weights_only=True)
    torch.save({**content, "config": {**content["config"], "batch_size": "12"}}, wrong)
    for flags, said in {
        ("--run", bad): "bad.pt",
        ("--run", tmp_path / "empty"): "holds no checkpoint_last.pt",
        ("--run", file, "--checkpoint", "best"): "is a checkpoint itself",
        ("--run", trained[0], "--checkpoint", "none.pt"): "--checkpoint none.pt: there is no",
        ("--run", wrong): "its setting batch_size is '12'; not usable",
        ("--run", file, "--batch_size", 1): "--batch_size 1",
        ("--run", file, "--increment", "none"): "does not fit this model",
    }.items():
        done = analyse("gradients", *flags, "--output", tmp_path / "out")
        assert done.code == 2, flags
        assert said in done.err, flags
    assert not (tmp_path / "out").exists()


def test_a_folder_of_the_users_stays(analyse, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "out").mkdir()
    assert analyse("all", "--run", tmp_path / "run", "--output", tmp_path / "out").code == 2
    assert (tmp_path / "out").is_dir()
    assert analyse("all", "--run", tmp_path / "run").code == 2
    assert not list((tmp_path / "run").iterdir())


def test_an_output_that_cannot_be_written(trained, logged, analyse, tmp_path):
    (tmp_path / "file").touch()
    done = analyse("geometry", "--run", logged, "--output", tmp_path / "file")
    assert done.code == 2
    assert "--output" in done.err
