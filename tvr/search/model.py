"""The model of an index: opened by name or path with its settings, and told from every other."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tvr.build import FROM_CHECKPOINT, Run, build_model, starting_checkpoint
from tvr.checks import contradictions, out_of_range, without_effect
from tvr.config import Config
from tvr.models.clip import KNOWN
from tvr.models.gare import GARE
from tvr.utils.distributed import Ranks, choose_device
from tvr.utils.errors import UserError

ALONE = Ranks(0, 0, 1)


@dataclass(frozen=True)
class SearchModel:
    """A model ready to encode, in evaluation mode; `name` finds it again from any folder."""

    name: str
    given: dict[str, Any]
    run: Run
    gare: GARE
    fingerprint: str

    @property
    def settings(self) -> dict[str, Any]:
        """What features and scores depend on besides the weights."""
        return settings(self.run.config)


def open_model(
    name: str, given: dict[str, Any], device: str, log: logging.Logger, **flags: Any
) -> SearchModel:
    """The model of a checkpoint, or CLIP alone where `name` is a backbone's.

    Args:
        name: path of a checkpoint, ours or the authors', or a name for `--base_encoder`.
        given: settings of `FROM_CHECKPOINT` that count instead of the checkpoint's.
        flags: further fields of `Config`.

    Raises:
        UserError: no such model, an unusable file, or settings that cannot work.
    """
    if name in KNOWN or name.startswith("open_clip:"):
        source = {"base_encoder": name}
    else:
        path = Path(name).absolute()
        if not path.is_file():
            known = ", ".join(KNOWN)
            raise UserError(f"--model {name}: no such checkpoint, nor one of {known}.")
        name, source = str(path), {"init_model": str(path)}
    config = Config(
        do_eval=True, device=device, **flags, **given | source, given=frozenset(given | source)
    )
    run = Run(config, ALONE, choose_device(device, ALONE), log)
    problems = [*out_of_range(config), *contradictions(config, ALONE)]
    if problems:
        raise UserError("settings that cannot work:\n  - " + "\n  - ".join(problems))
    for warning in without_effect(config, ALONE):
        log.warning("warning: %s", warning)
    config.resolve()
    gare = build_model(run, starting_checkpoint(run)).eval().requires_grad_(False)
    return SearchModel(name, given, run, gare, fingerprint(config, gare))


def settings(config: Config) -> dict[str, Any]:
    return {name: getattr(config, name) for name in FROM_CHECKPOINT}


def fingerprint(config: Config, gare: GARE) -> str:
    """16 hexadecimal digits for the weights and for every setting that features or scores need."""
    digest = hashlib.sha256(json.dumps(settings(config), sort_keys=True).encode())
    for name, tensor in sorted(gare.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
