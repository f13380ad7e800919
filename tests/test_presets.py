"""The paper's and the release's settings in one flag, and which of a run's are not the paper's."""

import pytest

from tvr.checks import check
from tvr.command_line import parse
from tvr.config import flags
from tvr.presets import BENCHMARKS, NOT_IN_THE_PAPER, PAPER, RELEASE, deviations, preset
from tvr.utils.distributed import Ranks

ONE, FOUR = Ranks(0, 0, 1), Ranks(0, 0, 4)
GOOD = "--do_train 1 --anno_path a --video_path v --output_dir o "

# The method's page: benchmark, words, frames, epochs, corrected side, context
STATED = [
    ("msrvtt", 32, 12, 5, "text", "frames"),
    ("msvd", 32, 12, 5, "text", "frames"),
    ("didemo", 64, 64, 5, "text", "frames"),
    ("activity", 64, 64, 10, "video", "words"),
    ("activitynet", 64, 64, 10, "video", "words"),
    ("lsmdc", 32, 12, 5, "text", "frames"),
]
AUTHORS = {
    **{"epochs": 5, "lr": 1e-4, "coef_lr": 1e-3, "batch_size": 128, "max_words": 32, "temp": 3.0},
    **{"max_frames": 12, "video_framerate": 1.0, "alpha": 2.0, "beta": 0.07, "lambda_dir": 0.01},
    **{"lambda_epsilon": 0.01, "lambda_lower": 0.5},
}


@pytest.mark.parametrize("stated", STATED)
def test_the_papers_settings_of_every_benchmark(stated):
    config = parse([*GOOD.split(), "--preset", "paper", "--datatype", stated[0]])
    assert check(config, FOUR) == []
    used = (config.max_words, config.max_frames, config.epochs, config.correct, config.context)
    assert used == stated[1:]


def test_the_papers_preset_is_the_authors_command():
    config = parse([*GOOD.split(), "--preset", "paper"])
    assert {name: getattr(config, name) for name in AUTHORS} == AUTHORS


def test_the_release_s_choices_are_all_there():
    config = parse([*GOOD.split(), "--preset", "release", "--n_display", "20", "--device", "cpu"])
    assert check(config, FOUR) == []
    wanted = {
        **{"kl": "joint", "beta": 1e-4, "padding": "release", "precision": "fp32"},
        **{"decay": "release", "grad_clip": "release", "gather": "release"},
        **{"schedule_epochs": 5, "eval_every": 60, "same_video": "negative", "temp": 3.0},
    }
    assert {name: getattr(config, name) for name in wanted} == wanted


def test_flags_win_over_a_preset():
    config = parse([*GOOD.split(), *["--epochs", "9", "--preset", "release", "--kl", "per_dim"]])
    assert (config.epochs, config.kl, config.padding) == (9, "per_dim", "release")
    assert config.given >= {"epochs", "kl", "preset"}
    assert "padding" not in config.given


def test_a_preset_that_is_none_is_refused_with_all_other_problems():
    with pytest.raises(ValueError, match=r"2 problems(.|\n)*--preset release2: choose"):
        check(parse([*GOOD.split(), "--preset", "release2", "--epochs", "0"]), ONE)


def test_presets_set_flags_that_there_are_to_values_that_they_can_have():
    known = {f.name: f for f in flags()}
    for datatype in BENCHMARKS:
        for name, value in (PAPER | RELEASE | preset("paper", datatype, 50, "cpu")).items():
            assert not (choices := known[name].metadata["choices"]) or value in choices, name


def test_deviations_from_the_paper_are_found():
    config = parse([*GOOD.split(), *["--preset", "paper", "--datatype", "didemo"]])
    assert deviations(config.public()) == {}
    config = parse(
        [*GOOD.split(), *["--datatype", "didemo", "--temp", "3", "--alpha", "3", "--lr", "1e-4"]]
    )
    found = {"alpha": (2.0, 3.0), "max_words": (64, 32), "max_frames": (64, 12)}
    config.resolve()
    assert deviations(config.public()) == found


@pytest.mark.parametrize("datatype", NOT_IN_THE_PAPER)
def test_our_settings_of_other_benchmarks_are_not_called_the_papers(datatype):
    line = ["--preset", "paper", "--datatype", datatype, "--epochs", "9", "--alpha", "3"]
    assert deviations(parse([*GOOD.split(), *line]).public()) == {"alpha": (2.0, 3.0)}


@pytest.mark.parametrize(
    ("name", "kl", "beta"),
    [("paper", "joint", 1e-4), ("paper", "per_dim", 0.07), ("release", "per_dim", 0.07)],
)
def test_beta_follows_the_convention_of_the_bottleneck(name, kl, beta):
    config = parse([*GOOD.split(), "--preset", name, "--kl", kl])
    config.resolve()
    assert config.beta == beta
    given = parse([*GOOD.split(), "--preset", name, "--kl", kl, "--beta", "0.5"])
    assert given.beta == 0.5
