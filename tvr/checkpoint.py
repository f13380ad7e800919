"""Checkpoints: plain tensors, numbers and strings, written whole or not at all.

    {"format": 1, "model": state dict, "settings": ModelSettings, "config": flags,
     "epoch": int, "step": int, "metrics": {...}}

They are read by `tvr/models/archive.py`, so that nothing in a file is ever executed.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tvr.models.archive import read_weights
from tvr.models.release import from_release, is_release, strip
from tvr.models.score import ModelSettings, Scorer
from tvr.utils.errors import UserError
from tvr.utils.files import replacing

FORMAT = 1


def save_checkpoint(path: Path, model: Scorer, **facts: Any) -> None:
    """Write a checkpoint atomically: a killed process leaves the previous file as it was.

    Raises:
        LocalError: it cannot be written.
    """
    content = {
        "format": FORMAT,
        "model": model.state_dict(),
        "settings": asdict(model.settings),
        **facts,
    }
    with replacing(path) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:
            # on a full disk torch's clean-up fails as well, and hides why
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically, indented for people.

    File names need not be UTF-8: their other bytes become escapes that are read as they were.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    with replacing(path) as file:
        file.write(text.encode(errors="backslashreplace"))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of ours, or a bare state dict (the release's), as `{"model": …}`.

    Raises:
        UserError: missing, unreadable, no weights in it, or written by a newer version.
    """
    content = read_weights(path)
    written = content.get("format", FORMAT)
    if type(written) is not int or written != FORMAT:
        seen = written if type(written) in (int, str) else f"of type {type(written).__name__}"
        raise UserError(f"{path}: checkpoint format {seen!s:.80}, this version reads {FORMAT}.")
    if "format" not in content:
        for key in ("model", "state_dict", "model_state_dict"):
            if isinstance(content.get(key), dict):
                content = content[key]
                break
        content = {"model": content}
    weights = content.get("model")
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(weight, Tensor) for name, weight in weights.items()
    ):
        raise UserError(f"{path}: holds no model weights under the names this program writes.")
    return content


def read_state(path: Path) -> dict[str, Any]:
    """What `tvr/resume.py` saves.

    Raises:
        UserError: see `read_checkpoint`; or it is a checkpoint without the state of a training.
    """
    content = read_checkpoint(path)
    kinds = {"config": dict, "circumstances": dict, "data": str, "moments": list, "position": dict}
    lacking = [name for name, kind in kinds.items() if not isinstance(content.get(name), kind)]
    if lacking:
        raise UserError(
            f"{path}: is no saved state of a training (it has no {', '.join(lacking)}). A "
            "checkpoint of weights alone is for --init_model."
        )
    return content


def trained_settings(path: Path, content: dict[str, Any]) -> dict[str, Any]:
    """All flags a checkpoint was trained with; empty for the release's, which carries none.

    Raises:
        UserError: they are no dictionaries, or hold model settings this version does not know.
    """
    config, settings = content.get("config", {}), content.get("settings", {})
    if not isinstance(config, dict) or not isinstance(settings, dict):
        raise UserError(f"{path}: its settings are not a dictionary; the file is not usable.")
    plain = (str, int, float, bool, type(None))
    # each of both: a name that is in both would hide one of its values
    pairs = [*config.items(), *settings.items()]
    if not all(isinstance(name, str) and isinstance(value, plain) for name, value in pairs):
        raise UserError(
            f"{path}: its settings hold other things than numbers and strings; the file is not "
            "usable."
        )
    unknown = set(settings) - set(ModelSettings.__dataclass_fields__)
    if unknown:
        names = ", ".join(sorted(unknown))
        raise UserError(f"{path}: unknown settings {names}; written by another version?")
    return config | settings


def load_model(model: nn.Module, content: dict[str, Any], path: Path) -> list[str]:
    """Put a checkpoint's weights into the model; returns the ignored keys of a release's file.

    Raises:
        UserError: weights are missing, unknown or of another shape (another width, say).
    """
    wanted = model.state_dict()
    state = strip(content["model"])
    ignored: list[str] = []
    if is_release(state):
        state, ignored = from_release(state, set(wanted))
    problems = [
        f"{name} has shape {tuple(state[name].shape)} in the file, {tuple(tensor.shape)} here"
        for name, tensor in wanted.items()
        if name in state and state[name].shape != tensor.shape
    ]
    problems += [f"missing {name}" for name in wanted if name not in state]
    problems += [f"unknown {name}" for name in state if name not in wanted]
    if problems:
        more = f"\n  … and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise UserError(
            f"--init_model {path} does not fit this model ({len(problems)} differences). Check "
            "--base_encoder, --agg_module, --num_hidden_layers, --increment:\n  "
            + "\n  ".join(problems[:8])
            + more
        )
    model.load_state_dict(state)
    return ignored
