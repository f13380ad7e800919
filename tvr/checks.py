"""Which settings are refused, and which have no effect in a run. No data are read here."""

from __future__ import annotations

import math
import os
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

from tvr.config import Config, flags
from tvr.dataloaders.augment import RandAugment
from tvr.dataloaders.benchmarks import DATATYPES, protocols
from tvr.dataloaders.cache_folder import folder_problem
from tvr.models.clip import KNOWN
from tvr.utils.arguments import too_long
from tvr.utils.distributed import Ranks
from tvr.utils.errors import UserError
from tvr.utils.optim import RELEASE_TENSOR_NORM

PATHS = (
    *("init_model", "output_dir", "resume", "export_features", "anno_path", "video_path"),
    *("frame_cache", "base_encoder"),
)
CONTEXT_LENGTH = 77  # positions that CLIP has, for tokens and for frames
MOST_FRAMES = 1000
AT_LEAST = {
    "epochs": 1,
    "batch_size_val": 1,
    "n_display": 1,
    "eval_every": 0,
    "schedule_epochs": 0,
    "max_frames": 1,
    "max_words": 3,
    "num_hidden_layers": 1,
    "workers": 0,
    "decode_timeout": 0,
    "seed": 0,
    "contact_sheet": 0,
    "report_examples": 0,
    "dual_softmax": 0,
    "sinkhorn": 0,
    "qb_norm": 0,
    "qb_bank": 1,
    "world_size": 0,
    "chunk_size": 0,
    "save_every": 0,
    "keep_last": 1,
    "coef_lr": 0,
    "weight_decay": 0,
    "warmup_proportion": 0,
    "alpha": 0,
    "beta": 0,
    "lambda_dir": 0,
    "lambda_epsilon": 0,
    "lambda_lower": 0,
}
POSITIVE = ("lr", "temp", "video_framerate", "kl_prior", "max_grad_norm")
TRAINING_ONLY = (
    *("epochs", "batch_size", "lr", "coef_lr", "weight_decay", "warmup_proportion"),
    *("max_grad_norm", "decay", "grad_clip", "n_display", "randaugment"),
    *("alpha", "beta", "lambda_dir", "lambda_epsilon", "lambda_lower", "kl", "kl_anchor"),
    *("kl_prior", "kl_normalize", "dir_form", "epsilon_form", "same_video"),
    *("chunk_size", "grad_checkpointing", "allow_partial_training", "schedule_epochs", "gather"),
    *("psi_init", "eval_every", "log_increment", "wandb"),
    *("resume", "save_every", "keep_last", "on_nonfinite", "on_bad_video"),
)
PSI_ONLY = (
    *("query", "correct", "context", "eta", "alpha", "beta", "lambda_dir", "lambda_epsilon"),
    *("lambda_lower", "kl", "kl_anchor", "kl_prior", "kl_normalize", "dir_form", "epsilon_form"),
    "psi_init",
)
EVALUATION_ONLY = (
    *("contact_sheet", "export_features", "dual_softmax", "sinkhorn", "qb_norm", "qb_bank"),
)
DEAD = ("interaction", "center", "distributed")


def check(config: Config, ranks: Ranks) -> list[str]:
    """The warnings for settings without effect.

    Raises:
        UserError: one message that lists every setting that cannot work.
    """
    impossible = impossible_paths(config)
    problems = [*missing(config), *out_of_range(config), *impossible]
    if not impossible:  # the others look whether files are there
        problems += contradictions(config, ranks)
    if problems:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise UserError(f"{count} with the settings:\n  - " + "\n  - ".join(problems))
    return without_effect(config, ranks)


def missing(config: Config) -> list[str]:
    """What the run needs and the command line does not name."""
    problems = []
    if not (config.do_train or config.do_eval):
        problems.append("nothing to do: give --do_train 1 or --do_eval 1.")
    needs = {
        "anno_path": "the folder of annotation files",
        "video_path": "the folder of videos",
        "output_dir": "the folder for log, checkpoints and metrics",
    }
    problems += [
        f"--{name} is not set: name {what}."
        for name, what in needs.items()
        if not getattr(config, name)
    ]
    return problems


def impossible_paths(config: Config) -> list[str]:
    """Paths that no file can have."""
    found = {name: getattr(config, name) for name in PATHS}
    return [
        f"--{name} {value[:40]}...: {problem}."
        for name, value in found.items()
        if value is not None and (problem := too_long(value))
    ]


def out_of_range(config: Config) -> list[str]:
    """Values that are no choice, no finite number, or too small or large."""
    problems = []
    for f in flags():
        value, choices = getattr(config, f.name), f.metadata["choices"]
        if choices and value not in choices:
            allowed = ", ".join(str(choice) for choice in choices if choice is not None)
            problems.append(f"--{f.name} {value}: choose one of {allowed}.")
        elif isinstance(value, float) and not math.isfinite(value):
            problems.append(f"--{f.name} {value}: give a finite number.")
        elif f.name in POSITIVE and value <= 0:
            problems.append(f"--{f.name} {value}: give a number above 0.")
        elif f.name in AT_LEAST and value is not None and value < AT_LEAST[f.name]:
            problems.append(f"--{f.name} {value}: give at least {AT_LEAST[f.name]}.")
    if config.warmup_proportion >= 1:
        problems.append(f"--warmup_proportion {config.warmup_proportion}: give less than 1.")
    if config.max_frames > MOST_FRAMES:
        problems.append(f"--max_frames {config.max_frames}: give at most {MOST_FRAMES}.")
    if config.max_words > CONTEXT_LENGTH:
        problems.append(f"--max_words {config.max_words}: CLIP reads {CONTEXT_LENGTH} at most.")
    if config.seed >= 2**32:
        problems.append(f"--seed {config.seed}: give less than 2^32.")
    return problems


def contradictions(config: Config, ranks: Ranks) -> list[str]:
    """Settings that do not fit each other, the benchmark or the number of processes."""
    problems = []
    if config.datatype not in DATATYPES:
        problems.append(f"--datatype {config.datatype}: choose one of {', '.join(DATATYPES)}.")
    elif config.protocol not in (None, *protocols(config.datatype)):
        known = ", ".join(protocols(config.datatype))
        problems.append(f"--protocol {config.protocol}: --datatype {config.datatype} has {known}.")
    problems += encoder_problems(config.base_encoder)
    problems += export_problems(config.export_features)
    problems += cache_problems(config.frame_cache)
    if config.agg_module == "seqTransf" and config.max_frames > CONTEXT_LENGTH:
        problems.append(
            f"--max_frames {config.max_frames}: --agg_module seqTransf has {CONTEXT_LENGTH} frame "
            "positions. Use fewer frames, or --agg_module seqLSTM or None."
        )
    if config.world_size not in (0, ranks.world_size):
        problems.append(
            f"--world_size {config.world_size}: the launcher started {ranks.world_size}. Leave "
            "the flag out and set the number with --nproc_per_node."
        )
    problems += compiler_problems(config.compile)
    if config.wandb is not None and find_spec("wandb") is None:
        problems.append(f"--wandb {config.wandb}: wandb is not installed: pip install wandb.")
    if not re.fullmatch(r"error|skip:\d{1,9}", config.on_nonfinite):
        problems.append(f"--on_nonfinite {config.on_nonfinite}: give error or skip:N, skip:3 say.")
    if config.do_train:
        problems += batch_problems(config.batch_size, ranks.world_size)
        problems += augmentation_problems(config.randaugment)
    return problems


def encoder_problems(name: str) -> list[str]:
    """A backbone is a known name, one of open_clip's, or a file that is there."""
    if name in KNOWN or name.startswith("open_clip:") or Path(name).is_file():
        return []
    return [f"--base_encoder {name}: no such file, nor one of {', '.join(KNOWN)}."]


def compiler_problems(wanted: bool) -> list[str]:
    """torch.compile makes programs in C++, on a GPU too."""
    name = os.environ.get("CXX", "g++")
    if not wanted or shutil.which(name):
        return []
    return [f"--compile 1: there is no C++ compiler {name}. Install one, or name it in CXX."]


def export_problems(name: str | None) -> list[str]:
    """The features go to a new or old file of a folder that is there."""
    if name is None:
        return []
    path = Path(name)
    if path.suffix != ".safetensors":
        return [f"--export_features {name}: name a file that ends in .safetensors."]
    if path.is_dir() or not path.parent.is_dir():
        return [f"--export_features {name}: name a file in a folder that is there."]
    return []


def cache_problems(name: str | None) -> list[str]:
    """The frame cache is a folder of its own, new or old."""
    problem = None if name is None else folder_problem(Path(name))
    return [] if problem is None else [f"--frame_cache {name}: {problem}"]


def augmentation_problems(randaugment: str) -> list[str]:
    """`none`, or what timm understands."""
    if randaugment == "none":
        return []
    try:
        if randaugment.startswith("rand"):
            RandAugment(randaugment)
            return []
    except UserError:
        pass
    wanted = "write none, or timm's notation such as rand-m7-n4-mstd0.5-inc1"
    return [f"--randaugment {randaugment}: {wanted}."]


def batch_problems(batch_size: int, world_size: int) -> list[str]:
    """A contrastive batch needs negatives, and every process the same share of it."""
    if batch_size < 2:
        return [
            f"--batch_size {batch_size}: the losses compare at least 2 pairs. Use 2 or more; the "
            "paper uses 128."
        ]
    if batch_size % world_size:
        down = batch_size // world_size * world_size
        nearest = f"{down} or {down + world_size}" if down else f"{world_size}"
        return [
            f"--batch_size {batch_size} is the batch of all processes together, and {world_size} "
            f"processes do not divide it. Use {nearest}."
        ]
    return []


def without_effect(config: Config, ranks: Ranks) -> list[str]:
    """One line per flag that was given and changes nothing in this run."""
    idle: dict[str, str] = dict.fromkeys(DEAD, "it does nothing, here or in the release")
    if not config.do_train:
        idle |= dict.fromkeys(TRAINING_ONLY, "it only matters in training")
    elif config.do_eval:
        idle["do_eval"] = "training evaluates after every epoch anyway"
    if config.do_train:
        idle |= dict.fromkeys(EVALUATION_ONLY, "only --do_eval does it")
    elif config.qb_norm == 0:
        idle["qb_bank"] = "--qb_norm is off"
    if config.zero_shot:
        reason = "without --init_model, CLIP alone is evaluated"
        idle |= dict.fromkeys((*PSI_ONLY, "increment", "agg_module", "num_hidden_layers"), reason)
    if config.increment == "none":
        idle |= dict.fromkeys(PSI_ONLY, "--increment none has no Δ")
    if config.query == "text":
        idle["eta"] = "--query text has no gap"
    if config.init_model is not None:
        idle["psi_init"] = "ψ starts as it is in --init_model"
    if ranks.world_size == 1:
        idle["gather"] = "there is one process"
    if config.max_grad_norm <= RELEASE_TENSOR_NORM:
        idle["grad_clip"] = "after a global limit of 1 no tensor's own norm is above 1"
    if config.agg_module != "seqTransf":
        idle["num_hidden_layers"] = f"--agg_module {config.agg_module} has no such layers"
    if config.beta == 0:
        reason = "--beta 0 switches the bottleneck off"
        idle |= dict.fromkeys(("kl", "kl_anchor", "kl_prior", "kl_normalize"), reason)
    if config.lambda_epsilon == 0:
        reason = "--lambda_epsilon 0 switches the radius loss off"
        idle |= dict.fromkeys(("lambda_lower", "epsilon_form"), reason)
    if config.lambda_dir == 0:
        reason = "--lambda_dir 0 switches the direction loss off"
        idle |= dict.fromkeys(("alpha", "dir_form"), reason)
    elif config.dir_form == "orthogonal":
        idle["alpha"] = "--dir_form orthogonal has no α"
    return [
        f"--{name} {getattr(config, name)} has no effect: {idle[name]}."
        for name in sorted(config.given & set(idle))
    ]
