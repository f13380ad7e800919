"""`--export_features`: a split's features as one safetensors file, for use outside this program.

    text_AD, words_ALD, word_mask_AL, frames_BFD, frame_mask_BF, video_of_caption_A

The file's metadata hold, as JSON, the ids in the same order and what made the features.

Shapes: A captions, B videos, F frames, L tokens, D embedding width.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save

from tvr.build import Run
from tvr.dataloaders.records import Split
from tvr.encode import EncodedClips
from tvr.models.gare import TextFeatures
from tvr.utils.distributed import gather_uneven
from tvr.utils.files import replacing


def export_features(run: Run, split: Split, text: TextFeatures, clips: EncodedClips) -> None:
    """Write the features of all ranks' clips and of the captions; all ranks have to call it.

    Raises:
        LocalError: the file cannot be written.
    """
    path = Path(run.config.export_features)
    width, frames = text.text_AD.shape[1], run.config.max_frames
    parts = clips.batches
    none_BFD = torch.zeros(0, frames, width, device=run.device)
    frames_BFD = gather_uneven(torch.cat([none_BFD, *(part.frames_BFD for part in parts)]))
    mask_BF = gather_uneven(torch.cat([none_BFD[..., 0].bool(), *(part.mask_BF for part in parts)]))
    order_B = gather_uneven(clips.clip_N).argsort()
    if not run.ranks.is_main:
        return
    tensors = {
        "text_AD": text.text_AD,
        "words_ALD": text.words_ALD,
        "word_mask_AL": text.mask_AL,
        "frames_BFD": frames_BFD[order_B],
        "frame_mask_BF": mask_BF[order_B],
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
        file.write(save(whole, metadata))
    run.log.info("wrote %s", path)
