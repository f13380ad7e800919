"""`--export_features`: a split's features as one safetensors file, for use outside this program.

    text_AD, words_ALD, word_mask_AL, frames_BFD, frame_mask_BF, video_of_caption_A

The file's metadata hold, as JSON, the ids in the same order and what made the features.

Shapes: A captions, B videos, F frames, L tokens, D embedding width.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from tvr.build import Run
from tvr.dataloaders.records import Split
from tvr.encode import EncodedClips, in_order
from tvr.models.gare import TextFeatures
from tvr.utils.files import replacing


def export_features(run: Run, split: Split, text: TextFeatures, clips: EncodedClips) -> None:
    """Write the features of all ranks' clips and of the captions; all ranks have to call it.

    Raises:
        LocalError: the file cannot be written.
    """
    assert run.config.export_features is not None
    path = Path(run.config.export_features)
    rows = clips.clip_N.split([len(part.mask_BF) for part in clips.batches])

    def on_main(pieces: list[Tensor], none: Tensor) -> Tensor | None:
        return in_order(run, pieces, rows, none, len(split.clips), everywhere=False)

    none_BFD = torch.zeros(0, run.config.max_frames, text.text_AD.shape[1])
    frames_BFD = on_main([part.frames_BFD for part in clips.batches], none_BFD)
    mask_BF = on_main([part.mask_BF for part in clips.batches], none_BFD[..., 0].bool())
    if not run.ranks.is_main:
        return
    assert text.words_ALD is not None
    assert frames_BFD is not None
    assert mask_BF is not None
    tensors = {
        "text_AD": text.text_AD,
        "words_ALD": text.words_ALD,
        "word_mask_AL": text.mask_AL,
        "frames_BFD": frames_BFD,
        "frame_mask_BF": mask_BF,
        "video_of_caption_A": torch.tensor(split.video_of_caption()),
    }
    facts = {
        "video_ids": [clip.video_id for clip in split.clips],
        "caption_ids": [caption.caption_id for caption in split.captions],
        "captions": [caption.text for caption in split.captions],
        "split": split.name,
        "checkpoint": run.config.init_model,
        "settings": run.settings_in_force(),
    }
    metadata = {name: json.dumps(fact, ensure_ascii=False) for name, fact in facts.items()}
    whole = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as file:
        try:
            # unlike `save`, it does not put the whole file together in memory
            save_file(whole, file.name, metadata)
        except SafetensorError as error:
            raise OSError(None, str(error)) from error
    run.log.info("wrote %s", path)
