"""Every command line flag, once, typed, with its default.

`tvr/command_line.py` makes the parser from them; `tvr/checks.py` says which combinations are
refused or have no effect.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from tvr.models.gare import ModelSettings
from tvr.models.losses import LossSettings


def flag(default: Any, text: str, choices: tuple | None = None, group: str = "") -> Any:
    """A command line flag: its default, its help, its allowed values and its section."""
    return field(default=default, metadata={"help": text, "choices": choices, "group": group})


@dataclass
class Config:
    """The settings of one run. Field names are flag names."""

    # What to do
    do_train: bool = flag(False, "train, evaluating after every epoch", group="run")
    do_eval: bool = flag(
        False, "evaluate --init_model, or without one CLIP alone (zero-shot)", group="run"
    )
    init_model: str | None = flag(
        None, "checkpoint to evaluate or to start from: ours or the authors'", group="run"
    )
    output_dir: str | None = flag(None, "folder for log, checkpoints and metrics", group="run")
    preset: str | None = flag(
        None,
        "the paper's settings for the benchmark, or the authors' release's, instead of the "
        "defaults; other flags win over it",
        (None, "paper", "release"),
        group="run",
    )
    seed: int = flag(42, "decides every random choice", group="run")
    device: str = flag("auto", "where to compute", ("auto", "cpu", "cuda"), group="run")
    precision: str = flag(
        "auto",
        "amp: bf16 compute, fp32 weights; fp16: CLIP's weights stored in half precision, as the "
        "authors' release does; auto: amp on a GPU that has bf16, fp32 elsewhere",
        ("auto", "amp", "fp32", "fp16"),
        group="run",
    )
    compile: bool = flag(
        False, "compile the encoders first: minutes at the start, faster steps", group="run"
    )
    workers: int = flag(8, "processes per rank that decode videos (0: none)", group="run")
    overwrite: bool = flag(
        False, "train although --output_dir holds checkpoints of an earlier run", group="run"
    )
    resume: str | None = flag(
        None,
        "go on with a training: auto takes the last state in --output_dir, or starts where there "
        "is none; or a state_*.pt, or a folder of them",
        group="run",
    )
    save_every: int = flag(
        500, "steps between two saved states, besides each epoch's end (0: none)", group="run"
    )
    keep_last: int = flag(2, "how many saved states to keep", group="run")
    on_nonfinite: str = flag(
        "error",
        "error: stop at a loss or gradient that is not finite; skip:N: leave out up to N updates",
        group="run",
    )
    n_display: int = flag(50, "steps between two log lines", group="run")
    eval_every: int = flag(
        0, "steps between two evaluations, besides each epoch's end (0: none)", group="run"
    )
    log_increment: bool = flag(
        False,
        "log angles, lengths and distances of Δ, texts and videos, for positives and negatives",
        group="run",
    )
    wandb: str | None = flag(None, "project of Weights & Biases to log to as well", group="run")
    dual_softmax: float = flag(
        0.0, "also report dual softmax at this temperature, 0.01 say (0: off)", group="run"
    )
    sinkhorn: float = flag(0.0, "also report Sinkhorn at this temperature (0: off)", group="run")
    qb_norm: float = flag(
        0.0, "also report QB-Norm (text to video) at this temperature (0: off)", group="run"
    )
    qb_bank: int = flag(5000, "training captions in QB-Norm's query bank", group="run")
    scoring: str = flag(
        "fast",
        "fast: the same scores and gradients, faster; literal: as the paper's equations stand",
        ("fast", "literal"),
        group="run",
    )
    export_features: str | None = flag(
        None, "file.safetensors for the test split's text, word and frame features", group="run"
    )
    contact_sheet: int = flag(
        0, "captions to draw with their five best videos in contact_sheet.jpg", group="run"
    )
    report_examples: int = flag(
        6,
        "successes and failures of each direction with previews in report.html (0: none)",
        group="run",
    )
    local_rank: int | None = flag(None, "set by the launcher", group="run")
    world_size: int = flag(0, "number of processes; 0: what the launcher says", group="run")

    # Data
    datatype: str = flag("msrvtt", "benchmark", group="data")
    protocol: str | None = flag(
        None, "which of the benchmark's splits; msrvtt: 9k (default), 7k, full", group="data"
    )
    anno_path: str | None = flag(None, "folder of annotation files", group="data")
    video_path: str | None = flag(None, "folder of videos", group="data")
    max_words: int = flag(32, "tokens of a caption, start and end included", group="data")
    max_frames: int = flag(12, "frames of a clip at most", group="data")
    video_framerate: float = flag(1.0, "frames to take per second", group="data")
    video_decoder: str = flag(
        "decord", "which decodes; then the other one is tried", ("decord", "opencv"), group="data"
    )
    decode_timeout: float = flag(60.0, "seconds for a clip at most (0: no limit)", group="data")
    on_bad_video: str = flag(
        "error",
        "skip: train on other captions instead of those of videos that cannot be read",
        ("error", "skip"),
        group="data",
    )
    frame_cache: str | None = flag(
        None, "folder that keeps decoded frames, so that each clip is decoded once", group="data"
    )
    randaugment: str = flag(
        "rand-m7-n4-mstd0.5-inc1", "timm's RandAugment for training frames, or none", group="data"
    )
    allow_partial_gallery: bool = flag(
        False, "evaluate although the gallery has not the documented size", group="data"
    )
    allow_partial_training: bool = flag(
        False, "leave out training videos without a file instead of ending", group="data"
    )

    # Model
    base_encoder: str = flag(
        "ViT-B/32",
        "ViT-B/32, ViT-B/16, ViT-L/14, open_clip:NAME/TAG, tiny, or a file: OpenAI's, or a "
        "checkpoint, whose CLIP is taken",
        group="model",
    )
    agg_module: str = flag(
        "seqTransf", "module over time", ("seqTransf", "seqLSTM", "None"), group="model"
    )
    num_hidden_layers: int = flag(4, "layers of seqTransf", group="model")
    increment: str = flag("gare", "none: the baseline, Δ = 0", ("gare", "none"), group="model")
    query: str = flag("gap", "ψ's query: the gap v̄ − t, or t", ("gap", "text"), group="model")
    correct: str = flag("text", "the side that Δ is added to", ("text", "video"), group="model")
    context: str = flag("frames", "what ψ attends to", ("frames", "words"), group="model")
    eta: int = flag(1, "sign of the gap", (1, -1), group="model")
    psi_init: str = flag(
        "normal",
        "how ψ starts: normal: N(0, 0.02), as the paper and the release; identity: the release's "
        "first initialisation, which it then overwrites; zero: Δ starts at 0",
        ("normal", "identity", "zero"),
        group="model",
    )
    temp: float = flag(5.0, "temperature of the frame pooling", group="model")
    padding: str = flag(
        "mask",
        "padded frames: masked, or used as in the release",
        ("mask", "release"),
        group="model",
    )

    # Loss
    alpha: float = flag(2.0, "sharpness of the direction loss", group="loss")
    beta: float | None = flag(
        None, "weight of the bottleneck; default 0.07, or 1e-4 with --kl joint", group="loss"
    )
    lambda_dir: float = flag(0.01, "weight of the direction loss", group="loss")
    lambda_epsilon: float = flag(0.01, "weight of the radius loss", group="loss")
    lambda_lower: float = flag(0.5, "the radius loss is bounded below by minus this", group="loss")
    kl: str = flag(
        "per_dim",
        "bottleneck averaged over dimensions (paper) or summed (release)",
        ("per_dim", "joint"),
        group="loss",
    )
    kl_anchor: str = flag(
        "video", "whose increments one Gaussian is fitted to", ("video", "text"), group="loss"
    )
    kl_prior: float = flag(1.0, "σ₀ of the bottleneck's prior", group="loss")
    kl_normalize: bool = flag(False, "scale Δ to length 1 before the bottleneck", group="loss")
    dir_form: str = flag("uniformity", "direction loss", ("uniformity", "orthogonal"), group="loss")
    epsilon_form: str = flag(
        "hard", "lower bound of the radius loss", ("hard", "smooth"), group="loss"
    )
    same_video: str = flag(
        "negative",
        "another caption's copy of the anchor's video in the batch: a negative, or left out",
        ("negative", "ignore"),
        group="loss",
    )

    # Optimisation
    epochs: int = flag(5, "passes over the training pairs", group="optimisation")
    batch_size: int = flag(128, "pairs per step, over all processes", group="optimisation")
    batch_size_val: int = flag(128, "clips per evaluation batch of a process", group="optimisation")
    chunk_size: int = flag(
        0,
        "pairs of a process to encode at a time, for batches that do not fit into memory: the same "
        "gradient for one more pass through the encoders (0: all at once)",
        group="optimisation",
    )
    grad_checkpointing: bool = flag(
        False, "compute the encoders' layers again instead of keeping them", group="optimisation"
    )
    lr: float = flag(1e-4, "learning rate of the new modules", group="optimisation")
    coef_lr: float = flag(1e-3, "CLIP's rate is lr times this", group="optimisation")
    weight_decay: float = flag(0.2, "decoupled weight decay", group="optimisation")
    warmup_proportion: float = flag(0.1, "share of the steps that warm up", group="optimisation")
    schedule_epochs: int = flag(
        0,
        "epochs that the learning rate's schedule is made for (0: --epochs; the release's: 5)",
        group="optimisation",
    )
    max_grad_norm: float = flag(1.0, "limit of the global gradient norm", group="optimisation")
    decay: str = flag(
        "standard",
        "standard spares biases, norms, logit scale and positions; release spares biases only",
        ("standard", "release"),
        group="optimisation",
    )
    grad_clip: str = flag(
        "global",
        "release also limits each tensor's own norm",
        ("global", "release"),
        group="optimisation",
    )
    gather: str = flag(
        "exact",
        "with W processes, exact: the gradient of one; release: the encoders' divided by W",
        ("exact", "release"),
        group="optimisation",
    )

    # Read by nobody, here or in the release
    interaction: str | None = flag(None, "accepted, does nothing", group="dead")
    center: str | None = flag(None, "accepted, does nothing", group="dead")
    distributed: str | None = flag(None, "accepted, does nothing", group="dead")

    # Names of the flags that the command line gave; not itself a flag
    given: frozenset[str] = field(default=frozenset(), metadata={"internal": True})

    def model_settings(self) -> ModelSettings:
        return ModelSettings(**{f.name: getattr(self, f.name) for f in fields(ModelSettings)})

    def loss_settings(self) -> LossSettings:
        return LossSettings(**{f.name: getattr(self, f.name) for f in fields(LossSettings)})

    @property
    def nonfinite_allowed(self) -> int:
        """How many updates `--on_nonfinite` allows to be left out."""
        return int(self.on_nonfinite.removeprefix("skip:")) if self.on_nonfinite != "error" else 0

    @property
    def zero_shot(self) -> bool:
        """Whether CLIP alone is evaluated: no checkpoint, no temporal module, no Δ."""
        return self.do_eval and not self.do_train and self.init_model is None

    def resolve(self) -> None:
        """Fill in the defaults that depend on other flags."""
        if self.zero_shot:
            self.agg_module, self.increment = "None", "none"
        if self.beta is None:
            self.beta = 0.07 if self.kl == "per_dim" else 1e-4

    def public(self) -> dict[str, Any]:
        """Every flag and its value, for checkpoints and metrics.json."""
        return {f.name: getattr(self, f.name) for f in flags()}


def flags() -> list:
    """The dataclass fields that are flags."""
    return [f for f in fields(Config) if not f.metadata.get("internal")]
