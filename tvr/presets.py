"""`--preset`: the settings of the paper for a benchmark, and those of the authors' release.

A preset takes the place of the defaults; every flag on the command line wins over it.
"""

from __future__ import annotations

from typing import Any

from tvr.utils.distributed import uses_gpu

ALIASES = {"activitynet": "activity"}

# What differs between the benchmarks
SHORT_CLIPS = {
    **{"max_words": 32, "max_frames": 12, "epochs": 5},
    **{"correct": "text", "context": "frames"},
}
LONG_CLIPS = SHORT_CLIPS | {"max_words": 64, "max_frames": 64}
BENCHMARKS: dict[str, dict[str, Any]] = {
    "msrvtt": SHORT_CLIPS,
    "msvd": SHORT_CLIPS,
    "didemo": LONG_CLIPS,
    "activity": LONG_CLIPS | {"epochs": 10, "correct": "video", "context": "words"},
    # Not in the paper; these settings are our choice
    "lsmdc": SHORT_CLIPS,
    "vatex": SHORT_CLIPS,
}

# What the paper states for all benchmarks. Where it is silent, the default stays.
PAPER: dict[str, Any] = {
    **{"base_encoder": "ViT-B/32", "agg_module": "seqTransf", "num_hidden_layers": 4},
    **{"video_framerate": 1.0, "randaugment": "rand-m7-n4-mstd0.5-inc1"},
    **{"increment": "gare", "query": "gap", "eta": 1, "temp": 3.0, "psi_init": "normal"},
    **{"batch_size": 128, "lr": 1e-4, "coef_lr": 1e-3, "weight_decay": 0.2},
    **{"warmup_proportion": 0.1, "max_grad_norm": 1.0},
    **{"alpha": 2.0, "kl": "per_dim", "beta": 0.07, "kl_anchor": "video", "kl_prior": 1.0},
    **{"kl_normalize": False, "dir_form": "uniformity", "epsilon_form": "hard"},
    **{"lambda_dir": 0.01, "lambda_epsilon": 0.01, "lambda_lower": 0.5},
}

# Where the authors' release does otherwise, or settles what the paper leaves open
RELEASE: dict[str, Any] = {
    **{"kl": "joint", "beta": 1e-4, "padding": "release", "decay": "release"},
    **{"grad_clip": "release", "gather": "release", "schedule_epochs": 5},
    **{"same_video": "negative"},
}
NOT_IN_THE_PAPER = ("lsmdc", "vatex")
EVALUATED_EVERY = 3  # log lines, in the release

NAMES = ("paper", "release")


def canonical(datatype: str) -> str:
    """The one name of a benchmark that has several."""
    return ALIASES.get(datatype, datatype)


def preset(name: str, datatype: str, n_display: int, device: str) -> dict[str, Any]:
    """The flags and values of a preset for a benchmark; those of an unknown one are the common.

    The release stores CLIP's weights in fp16 on a GPU only.
    """
    assert name in NAMES, name
    values = PAPER | BENCHMARKS.get(canonical(datatype), {})
    if name == "release":
        values |= RELEASE | {"precision": "fp16" if uses_gpu(device) else "fp32"}
        values["eval_every"] = EVALUATED_EVERY * max(n_display, 1)
    return values


def deviations(settings: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The settings that are not the paper's for their benchmark: name to (paper's, this).

    Of a benchmark that is not in the paper, those that it has for all benchmarks.
    """
    datatype = canonical(settings["datatype"])
    of_benchmark = {} if datatype in NOT_IN_THE_PAPER else BENCHMARKS.get(datatype, {})
    paper = PAPER | of_benchmark
    return {
        name: (value, settings[name])
        for name, value in paper.items()
        if name in settings and settings[name] != value
    }
