"""Reads checkpoints of the authors' release: their parameter names in terms of ours."""

from __future__ import annotations

from torch import Tensor

# Order matters: the first prefix that fits is replaced.
RENAMED = {
    "transformerClip.": "temporal.transformer.",
    "frame_position_embeddings.": "temporal.position.",
    "lstm_visual.": "temporal.lstm.",
    "psi.layers.0.cross_attn.q_proj.": "psi.query.",
    "psi.layers.0.cross_attn.k_proj.": "psi.key.",
    "psi.layers.0.cross_attn.v_proj.": "psi.value.",
    "psi.layers.0.cross_attn.out_proj.": "psi.out.",
    "psi.layers.0.linear1.": "psi.residual.",
    "psi.layers.0.layer_norm1.": "psi.norm_in.",
    "psi.layers.0.layer_norm2.": "psi.norm_attended.",
    "psi.layers.0.layer_norm3.": "psi.norm_out.",
    "psi.mean_proj.": "psi.mean.",
}


def is_release(state: dict[str, Tensor]) -> bool:
    """Whether a state dict carries the release's names rather than ours."""
    return any(name.startswith(prefix) for name in strip(state) for prefix in RENAMED)


def strip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict without the prefix that DistributedDataParallel adds."""
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def from_release(state: dict[str, Tensor], wanted: set[str]) -> tuple[dict[str, Tensor], list[str]]:
    """The release's state dict under our names, and the keys that have no counterpart here.

    Ignored are the second copy of ψ (`agent.psi.*`), parameters that the release never uses
    (`weight_fc`, ψ's `mlp`, `linear2`, `log_std_proj`) and whatever this model's settings do not
    build; `wanted` holds this model's names.
    """
    renamed, ignored = {}, []
    for name, tensor in strip(state).items():
        own = name
        for prefix, replacement in RENAMED.items():
            if name.startswith(prefix):
                own = replacement + name.removeprefix(prefix)
                break
        if own in wanted:
            renamed[own] = tensor
        else:
            ignored.append(name)
    return renamed, ignored
