"""The CLIP backbone: what `--base_encoder` may name, and the features taken from its towers.

Shapes: N images, A texts, L tokens, D embedding width, C channels, H and W pixels.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import open_clip
import torch
from open_clip.model import build_model_from_openai_state_dict, convert_weights_to_lp
from open_clip.transformer import TextTransformer
from torch import Tensor, nn

from tvr.models.archive import read_weights
from tvr.models.weights import OPENAI_SHA256, openai_file
from tvr.utils.distributed import local_leader_first
from tvr.utils.errors import UserError

# A small randomly initialised CLIP for the demo and the tests: it trains on a CPU in minutes.
TINY = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 96, "patch_size": 16, "width": 128, "layers": 2, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 2},
    "quick_gelu": True,
}
# Encoders that start at random, by their names
FROM_SCRATCH: dict[str, dict[str, Any]] = {
    "tiny": TINY,
}
KNOWN = (*OPENAI_SHA256, "open_clip:NAME/TAG", *FROM_SCRATCH)

# open_clip comes without types: to the checker both are Any
OpenClip: TypeAlias = open_clip.CLIP | open_clip.CustomTextCLIP
TextTower: TypeAlias = open_clip.CLIP | TextTransformer


@dataclass(frozen=True)
class Backbone:
    """A CLIP model and what its inputs need. `mean` and `std` are per channel, for pixels in 0..1.

    `tokenize(texts, length)` gives token ids (A, length): start, words, end, zeros.
    """

    model: OpenClip
    width: int
    resolution: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    tokenize: Tokenizer


class Tokenizer:
    """CLIP's lower-cased byte-pair encoding; a class, so that loader processes can receive it."""

    def __init__(self) -> None:
        self.encoder = open_clip.SimpleTokenizer()

    def __call__(self, texts: list[str], length: int) -> Tensor:
        return self.encoder(texts, context_length=length)


def build_backbone(name: str, precision: str = "fp32", pretrained: bool = True) -> Backbone:
    """The backbone that `--base_encoder` names.

    Args:
        name: `ViT-B/32`, `ViT-B/16` or `ViT-L/14` (OpenAI's weights), `open_clip:NAME/TAG`,
            `tiny`, or the path of an OpenAI archive, of a state dict in OpenAI's format, or of a
            checkpoint of ours, whose CLIP is taken.
        precision: `fp16` stores the towers' weights in half precision, as the authors' release
            does on a GPU; anything else stores fp32.
        pretrained: False leaves named backbones at random where a checkpoint follows anyway.

    Raises:
        UserError: unknown name, unreadable file, wrong checksum, failed download, or a text tower
            that is not CLIP's.
    """
    half = precision == "fp16"
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    if name in FROM_SCRATCH:
        model = open_clip.CLIP(**FROM_SCRATCH[name], cast_dtype=torch.float16 if half else None)
    elif name.startswith("open_clip:"):
        model, mean, std = open_clip_model(name, half, pretrained)
    elif name in OPENAI_SHA256 and not pretrained:
        config = open_clip.get_model_config(name.replace("/", "-"))
        config |= {"quick_gelu": True, "cast_dtype": torch.float16 if half else None}
        model = open_clip.CLIP(**config)
    else:
        path = openai_file(name) if name in OPENAI_SHA256 else Path(name)
        if not path.is_file():
            raise UserError(f"--base_encoder {name}: no such file, nor one of {', '.join(KNOWN)}.")
        content = read_weights(path)
        if "format" in content:
            return backbone_of_checkpoint(content, path, precision)
        model = openai_model(content, path, half)
    check_text_tower(model, name)
    model = model.float()
    if half:
        convert_weights_to_lp(model, torch.float16)
    size = model.visual.image_size
    return Backbone(
        model=model.train(),
        width=project(model, torch.zeros(1, text_tower(model).ln_final.weight.shape[0])).shape[1],
        resolution=size[0] if isinstance(size, tuple | list) else size,
        mean=tuple(mean),
        std=tuple(std),
        tokenize=Tokenizer(),
    )


def backbone_of_checkpoint(content: dict[str, Any], path: Path, precision: str) -> Backbone:
    """The CLIP of one of our checkpoints, for training on from its encoders alone.

    Raises:
        UserError: it does not say which encoder it has, or has other weights than that one.
    """
    settings, weights = content.get("settings"), content.get("model")
    name = settings.get("base_encoder") if isinstance(settings, dict) else None
    if not (
        isinstance(name, str)
        and (name in KNOWN or name.startswith("open_clip:"))
        and isinstance(weights, dict)
    ):
        raise UserError(
            f"--base_encoder {path}: a checkpoint of {name!r:.80}; only those of a named encoder "
            f"({', '.join(KNOWN)}) can be one themselves."
        )
    backbone = build_backbone(name, precision, pretrained=False)
    own = {
        str(key).removeprefix("clip."): w
        for key, w in weights.items()
        if str(key).startswith("clip.")
    }
    try:
        backbone.model.load_state_dict(own)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise UserError(
            f"--base_encoder {path}: its weights are not those of {name} ({str(error)[:300]})."
        ) from error
    return backbone


def open_clip_model(name: str, half: bool, pretrained: bool) -> tuple[OpenClip, Any, Any]:
    """`open_clip:NAME/TAG` by way of open_clip, which finds, downloads and loads the weights.

    Returns the model and the mean and standard deviation of its pixels, per channel.
    """
    arch, _, tag = name.removeprefix("open_clip:").partition("/")
    known = open_clip.list_pretrained_tags_by_model(arch)
    if not known or tag not in known:
        tags = f"its tags are: {', '.join(known)}" if known else "open_clip knows no such model"
        raise UserError(
            f"--base_encoder {name}: write open_clip:NAME/TAG, as open_clip.list_pretrained() "
            f"lists them; {tags}."
        )
    facts = open_clip.get_pretrained_cfg(arch, tag)
    try:
        with local_leader_first():  # which downloads for all
            model = open_clip.create_model(
                arch,
                pretrained=tag if pretrained else None,
                precision="fp16" if half else "fp32",
                force_quick_gelu=bool(facts.get("quick_gelu", False)),
            )
    except (OSError, RuntimeError) as error:
        raise UserError(f"--base_encoder {name}: open_clip could not load it: {error}") from error
    mean = facts.get("mean") or open_clip.OPENAI_DATASET_MEAN
    return model, mean, facts.get("std") or open_clip.OPENAI_DATASET_STD


def check_text_tower(model: OpenClip, name: str) -> None:
    """Raises UserError unless the text tower is a causal CLIP transformer over CLIP's BPE.

    Word features need one projected vector per token, which other towers do not offer.
    """
    tower = text_tower(model)
    pool = getattr(tower, "pool_type", getattr(tower, "text_pool_type", None))
    causal = getattr(tower, "attn_mask", None) is not None
    vocabulary = getattr(tower, "vocab_size", None)
    reasons = {
        "it attends to what follows a word": not causal,
        f"it pools by {pool} and not at the end token": pool != "argmax",
        f"its vocabulary has {vocabulary} entries and not 49408": vocabulary != 49408,
        "it comes with a text decoder": hasattr(model, "text_decoder"),
    }
    if any(reasons.values()):
        why = ", ".join(reason for reason, holds in reasons.items() if holds)
        raise UserError(
            f"--base_encoder {name}: its text tower is not CLIP's ({why}). Choose a model with "
            "CLIP's text tower, such as open_clip:ViT-B-32/laion2b_s34b_b79k."
        )


def openai_model(state: dict[str, Any], path: Path, half: bool) -> OpenClip:
    """A CLIP from a state dict in OpenAI's format, its sizes read off the tensors."""
    try:
        dtype = torch.float16 if half else None
        # first without memory: a tensor without numbers may have any width
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            build_model_from_openai_state_dict(dict(state), cast_dtype=dtype)
        model = build_model_from_openai_state_dict(dict(state), cast_dtype=dtype)
        # it stores fp16, as OpenAI does; weights that came in fp32 must not lose their last bits
        model.float().load_state_dict(state, strict=False)
        return model
    except (
        LookupError,
        RuntimeError,
        AttributeError,
        AssertionError,
        ValueError,
        TypeError,
        ArithmeticError,
    ) as error:
        raise UserError(
            f"--base_encoder {path}: not a CLIP in OpenAI's format ({type(error).__name__}: "
            f"{str(error)[:300]}). Known names: {', '.join(KNOWN)}."
        ) from error


def text_tower(model: OpenClip) -> TextTower:
    """The module that holds the text transformer: open_clip keeps it inline or under `text`."""
    return getattr(model, "text", model)


def project(model: OpenClip, x: Tensor) -> Tensor:
    """The text projection, which open_clip stores as a matrix, a linear layer or not at all."""
    projection = text_tower(model).text_projection
    if projection is None:
        return x
    if isinstance(projection, nn.Linear):
        return projection(x.to(projection.weight.dtype))
    return x.to(projection.dtype) @ projection


def frame_features(model: OpenClip, pixels_NCHW: Tensor) -> Tensor:
    """Image features (N, D) in fp32: class token, `ln_post`, `proj`; not normalised."""
    return model.encode_image(pixels_NCHW.to(image_stem(model).weight.dtype)).float()


def image_stem(model: OpenClip) -> nn.Conv2d:
    """The visual tower's first convolution, `conv1` in CLIP."""
    return next(m for m in model.visual.modules() if isinstance(m, nn.Conv2d))


def token_states(model: OpenClip, tokens_AL: Tensor) -> Tensor:
    """Token states after `ln_final`, before the projection, without padding the text to 77.

    Causal attention makes a token blind to what follows, so the shorter text changes nothing.
    """
    tower = text_tower(model)
    length = tokens_AL.shape[1]
    dtype = tower.transformer.get_cast_dtype()
    x = tower.token_embedding(tokens_AL).to(dtype) + tower.positional_embedding[:length].to(dtype)
    return tower.ln_final(tower.transformer(x, attn_mask=tower.attn_mask[:length, :length]))
