"""Which command lines are refused, with what message, and which flags warn."""

import pytest

from tvr.checks import check
from tvr.command_line import parse
from tvr.config import Config
from tvr.models.gare import ModelSettings
from tvr.models.losses import LossSettings
from tvr.utils.distributed import Ranks, launched_ranks
from tvr.utils.errors import UserError

ONE = Ranks(0, 0, 1)
FOUR = Ranks(0, 0, 4)
GOOD = "--do_train 1 --anno_path a --video_path v --output_dir o "

# The command of the paper's authors, to the letter
AUTHORS = (
    "--do_train 1 --workers 8 --n_display 50 --epochs 5 --lr 1e-4 --coef_lr 1e-3 "
    "--batch_size 128 --batch_size_val 128 --anno_path data/MSR-VTT/anns "
    "--video_path data/3fps_videos --datatype msrvtt --max_words 32 --max_frames 12 "
    "--video_framerate 1 --output_dir ckpts/ckpt_msrvtt_retrieval_looseType --temp 3 --alpha 2 "
    "--beta 0.07 --lambda_dir 0.01 --lambda_epsilon 0.01 --lambda_lower 0.5"
)


def refused(line, ranks=ONE):
    with pytest.raises(UserError) as caught:
        check(parse(line.split()), ranks)
    return str(caught.value)


def test_authors_command_is_accepted_without_warning():
    config = parse([*AUTHORS.split(), "--local-rank=3"])
    assert check(config, FOUR) == []
    assert (config.temp, config.beta, config.local_rank) == (3.0, 0.07, 3)


def test_defaults_are_the_papers():
    config = Config()
    config.resolve()
    wanted = {
        **{"seed": 42, "warmup_proportion": 0.1, "weight_decay": 0.2, "num_hidden_layers": 4},
        **{"base_encoder": "ViT-B/32", "agg_module": "seqTransf", "temp": 5.0, "beta": 0.07},
        **{"lr": 1e-4, "coef_lr": 1e-3, "batch_size": 128, "epochs": 5, "alpha": 2.0},
        **{"lambda_dir": 0.01, "lambda_epsilon": 0.01, "lambda_lower": 0.5, "kl": "per_dim"},
        **{"correct": "text", "context": "frames", "eta": 1, "max_words": 32, "max_frames": 12},
    }
    assert {name: getattr(config, name) for name in wanted} == wanted


def test_defaults_are_the_same_wherever_they_are_written():
    config = Config()
    config.resolve()
    assert config.model_settings() == ModelSettings()
    assert config.loss_settings() == LossSettings()


@pytest.mark.parametrize(("name", "value"), [("RANK", "x"), ("WORLD_SIZE", "-2")])
def test_an_environment_that_no_launcher_makes(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"{name} is '{value}'"):
        launched_ranks()


def test_the_flag_local_rank_counts_only_without_a_launcher(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert [launched_ranks(rank).local_rank for rank in (None, -1, 2)] == [0, 0, 2]
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert launched_ranks(2).local_rank == 1


def test_beta_follows_the_convention_unless_given():
    for line, beta in [("--kl joint", 1e-4), ("--kl joint --beta 0.5", 0.5), ("", 0.07)]:
        config = parse((GOOD + line).split())
        config.resolve()
        assert config.beta == beta


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("--do_train 1", ["--anno_path", "--video_path", "--output_dir"]),
        ("--anno_path a --video_path v --output_dir o", ["--do_train 1", "--do_eval 1"]),
        (GOOD + "--qb_bank 0", ["--qb_bank 0"]),
        (GOOD + "--batch_size 1", ["--batch_size 1", "at least 2"]),
        (GOOD + "--batch_size 0", ["--batch_size 0"]),
        (GOOD + "--lr nan", ["--lr nan"]),
        (GOOD + "--lr 0", ["--lr 0"]),
        (GOOD + "--temp -1", ["--temp -1"]),
        (GOOD + "--beta -1", ["--beta -1"]),
        (GOOD + "--epochs 0", ["--epochs 0"]),
        (GOOD + "--warmup_proportion 1", ["--warmup_proportion 1"]),
        (GOOD + "--max_words 78", ["--max_words 78", "77"]),
        (GOOD + "--max_words 2", ["--max_words 2"]),
        (GOOD + "--max_frames 78", ["--max_frames 78", "seqLSTM"]),
        (GOOD + "--datatype kinetics", ["--datatype kinetics", "msrvtt"]),
        (GOOD + "--protocol 8k", ["--protocol 8k", "9k", "7k"]),
        (GOOD + "--eta 2", ["--eta 2"]),
        (GOOD + "--context pixels", ["--context pixels", "frames", "words"]),
        (GOOD + "--world_size 2", ["--world_size 2", "--nproc_per_node"]),
        (GOOD + "--randaugment lots", ["--randaugment lots"]),
        (GOOD + "--randaugment rand-zz3-m7", ["--randaugment rand-zz3-m7"]),
        (GOOD + "--base_encoder ViT-B/33", ["--base_encoder ViT-B/33", "ViT-B/32", "tiny"]),
        (GOOD + "--max_frames 2000 --agg_module None", ["--max_frames 2000"]),
        (GOOD + "--seed -1", ["--seed -1"]),
    ],
)
def test_refused_with_the_flag_and_the_way_out(line, named):
    message = refused(line)
    assert all(part in message for part in named), message


def test_batch_that_the_processes_do_not_divide():
    assert "Use 128 or 132" in refused(GOOD + "--batch_size 130", FOUR)
    assert "Use 4." in refused(GOOD + "--batch_size 3", FOUR)


def test_all_problems_come_in_one_message():
    message = refused("--do_train 1 --batch_size 1 --lr -1 --eta 3 --datatype x --kl both")
    assert "8 problems" in message
    for flag in ("anno_path", "video_path", "output_dir", "batch_size", "lr", "eta", "datatype"):
        assert f"--{flag}" in message
    assert "--kl both" in message


@pytest.mark.parametrize("line", ["--epoch 5", "--do_train maybe", "--epochs many", "stray"])
def test_command_lines_that_cannot_be_read(line):
    with pytest.raises(UserError, match="--help"):
        parse(line.split())


@pytest.mark.parametrize(
    ("line", "flags"),
    [
        ("--interaction wti --center 1 --distributed 0", {"interaction", "center", "distributed"}),
        ("--increment none --eta -1 --beta 0.1", {"eta", "beta"}),
        ("--query text --eta 1", {"eta"}),
        ("--agg_module None --num_hidden_layers 2", {"num_hidden_layers"}),
        ("--beta 0 --kl joint --kl_prior 2", {"kl", "kl_prior"}),
        ("--lambda_epsilon 0 --lambda_lower 1", {"lambda_lower"}),
        ("--lambda_epsilon 0 --epsilon_form smooth", {"epsilon_form"}),
        ("--grad_clip release", {"grad_clip"}),
        ("--grad_clip release --max_grad_norm 5", set()),
        ("--lambda_dir 0 --alpha 3", {"alpha"}),
        ("--dir_form orthogonal --alpha 3", {"alpha"}),
        ("--do_eval 1", {"do_eval"}),
        ("--contact_sheet 3 --dual_softmax 1", {"contact_sheet", "dual_softmax"}),
        ("--alpha 3 --eta -1 --kl joint", set()),
    ],
)  # fmt: skip
def test_flags_without_effect_warn(line, flags):
    warnings = check(parse((GOOD + line).split()), ONE)
    assert {w.split()[0].removeprefix("--") for w in warnings} == flags, warnings


def test_training_flags_warn_in_evaluation():
    line = GOOD.replace("--do_train", "--do_eval") + "--init_model m --lr 1 --epochs 2 --temp 3"
    warnings = check(parse(line.split()), ONE)
    assert {w.split()[0] for w in warnings} == {"--lr", "--epochs"}


@pytest.mark.parametrize("flag", ["init_model", "base_encoder", "video_path", "output_dir"])
@pytest.mark.parametrize("value", ["x" * 256, "ä" * 128, "x/" * 2048])
def test_paths_that_no_file_can_have(flag, value):
    assert f"--{flag} {value[:40]}...: " in refused(f"{GOOD}--{flag} {value}")


def test_a_long_path_is_no_problem():
    assert check(parse([*GOOD.split(), "--video_path", "x" * 255 + "/" + "y" * 255]), ONE) == []
