"""The optimiser, its schedule and gradient clipping, in terms of torch's own implementations."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import AdamW

BETAS = (0.9, 0.98)
EPS = 1e-6
# With 0.9^t and 0.98^t both 0 in floating point, AdamW's bias corrections 1 − β^t are exactly 1.
STEP_WITHOUT_BIAS_CORRECTION = 100_000.0
RELEASE_TENSOR_NORM = 1.0
MAX_LOGIT_SCALE = math.log(100.0)


def schedule(step: int, total: int, warmup: float) -> float:
    """The factor on the learning rate at 0-based `step` of `total`.

    Linear warm-up over the first `warmup` share, then ½(1 + cos(π·progress)), where progress is
    counted from step 0 and not from the end of the warm-up. Step 0 has factor 0.
    """
    progress = step / total
    if progress < warmup:
        return progress / warmup
    return 0.5 * (1 + math.cos(math.pi * progress))


def build_optimizer(groups: list[dict]) -> AdamW:
    """AdamW without bias correction: θ ← θ − lr·(m/(√v + ε) + decay·θ), as BERT's Adam has it.

    It is torch's AdamW, started at a step count where both bias corrections have become 1.
    """
    optimizer = AdamW(groups, betas=BETAS, eps=EPS, fused=True)
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            optimizer.state[parameter] = {
                "step": torch.tensor(STEP_WITHOUT_BIAS_CORRECTION, device=parameter.device),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
    return optimizer


def set_learning_rate(optimizer: AdamW, factor: float) -> None:
    """Scale every group's base rate (`base_lr`) by the schedule's factor."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor


def parameter_groups(
    model: nn.Module, lr: float, coef_lr: float, weight_decay: float, decay: str
) -> list[dict]:
    """Four groups: CLIP (rate lr·coef_lr) and new modules (rate lr), with and without decay.

    `decay="standard"` spares biases, norms, the logit scale and position embeddings.
    `decay="release"` spares only what is called a bias, as the authors' name filter does.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if decay == "release":
            decays = "bias" not in name
        else:
            decays = parameter.ndim >= 2 and "position" not in name
        groups.setdefault((name.startswith("clip."), decays), []).append(parameter)
    return [
        {
            "params": parameters,
            "of": "clip" if is_clip else "new",
            "base_lr": lr * (coef_lr if is_clip else 1.0),
            "lr": 0.0,
            "weight_decay": weight_decay if decays else 0.0,
        }
        for (is_clip, decays), parameters in groups.items()
    ]


def part_norms(model: nn.Module) -> dict[str, Tensor]:
    """The norm of the gradients of each of the model's direct parts that has some, by its name."""
    found = {}
    for name, part in model.named_children():
        gradients = [p.grad for p in part.parameters() if p.grad is not None]
        if gradients:
            found[name] = nn.utils.get_total_norm(gradients)
    return found


def clip_gradients(
    parameters: Iterable[nn.Parameter], limit: float, how: str, norm: Tensor | None = None
) -> Tensor:
    """Scale gradients to a global norm of at most `limit`; returns the norm before.

    `norm` is that norm where it is known already.

    `how="release"` then limits every tensor's own norm to 1, as the authors' optimiser does. With
    a global limit of 1 or less, which is the default, that changes nothing.
    """
    parameters = list(parameters)
    if norm is None:
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    if how == "release":
        for parameter in parameters:
            nn.utils.clip_grad_norm_(parameter, RELEASE_TENSOR_NORM)
    return norm


@torch.no_grad()
def clamp_logit_scale(logit_scale: Tensor) -> None:
    """Keeps exp(logit_scale) at 100 or less."""
    logit_scale.clamp_(max=MAX_LOGIT_SCALE)
