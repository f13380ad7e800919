"""One process of the gradient test: its share of a fixed global batch, one backward pass each.

usage: gradient_worker.py SETTINGS_JSON OUTPUT   (started alone or by torchrun)

SETTINGS_JSON maps a name to model settings and how to compute; OUTPUT then maps it to the loss and
the gradients, and "flops" to the arithmetic of one process for the score and the loss.
"""

import json
import sys
from types import SimpleNamespace

import torch
from torch.utils.flop_counter import FlopCounterMode

from tvr.dataloaders.batches import PairBatch
from tvr.models.clip import build_backbone
from tvr.models.gare import GARE, ModelSettings
from tvr.models.losses import LossSettings
from tvr.models.score import Scorer, TextFeatures, VideoFeatures
from tvr.step import StepSettings, distribute, gradients, objective
from tvr.utils.distributed import launched_ranks, process_group

BATCH, FRAMES, WORDS = 12, 3, 9


def global_batch(resolution):
    generator = torch.Generator().manual_seed(5)
    tokens = torch.zeros(BATCH, WORDS, dtype=torch.long)
    mask = torch.zeros(BATCH, FRAMES, dtype=torch.bool)
    for i in range(BATCH):
        words = 1 + i % (WORDS - 2)
        tokens[i, 0] = 49406
        tokens[i, 1 : 1 + words] = torch.randint(1, 40000, (words,), generator=generator)
        tokens[i, 1 + words] = 49407
        mask[i, : 1 + i % FRAMES] = True
    shape = (BATCH, FRAMES, 3, resolution, resolution)
    frames = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    videos = torch.arange(BATCH)
    # the same video twice, on different ranks and on the same
    for copy, original in ((7, 2), (5, 4)):
        videos[copy], frames[copy], mask[copy] = original, frames[original], mask[original]
    return tokens, frames, mask, videos


class Stand:
    """The part of a `Run` that `distribute` looks at."""

    def __init__(self, ranks):
        self.ranks, self.device = ranks, torch.device("cpu")


def share_of(ranks, resolution):
    """This rank's part of the global batch, every clip once."""
    size = BATCH // ranks.world_size
    share = slice(ranks.rank * size, (ranks.rank + 1) * size)
    tokens, frames, mask, videos = (part[share] for part in global_batch(resolution))
    first = {video: row for row, video in reversed(list(enumerate(videos.tolist())))}
    rows = list(first.values())
    place = {video: place for place, video in enumerate(first)}
    return PairBatch(
        tokens_BL=tokens,
        frames_NCHW=frames[rows][mask[rows]],
        mask_UF=mask[rows],
        clip_B=torch.tensor([place[video] for video in videos.tolist()]),
        video_B=videos,
        caption_B=torch.arange(BATCH)[share],
        frames_of_clip=mask[rows].sum(dim=1).tolist(),
    )


def loss_and_gradients(
    ranks, chunk_size=0, folded=True, grad_checkpointing=False, release_gather=False, **settings
):
    torch.manual_seed(0)
    backbone = build_backbone("tiny")
    model = GARE(backbone, ModelSettings(base_encoder="tiny", **settings))
    if grad_checkpointing:
        model.checkpoint_activations()
    encoders = distribute(Stand(ranks), model)
    weights = LossSettings(same_video="ignore", lambda_dir=1.0, lambda_epsilon=1.0)
    torch.manual_seed(1)  # the dropout of the step, as train_step seeds it
    how = StepSettings(weights, chunk_size, folded, release_gather, geometry=True)
    terms = gradients(model, encoders, share_of(ranks, backbone.resolution), how)
    return {
        "loss": terms["loss"].detach(),
        "statistics": {name: value for name, value in terms.items() if "/" in name},
        "gradients": {name: p.grad for name, p in model.named_parameters() if p.requires_grad},
    }


def flops_of_the_score(ranks, folded):
    """Multiplications and additions of this process, there and back, for 96 captions and videos."""
    scorer, own = Scorer(ModelSettings(), width=64), 96 // ranks.world_size
    text = TextFeatures(torch.randn(own, 64).requires_grad_(), None, torch.ones(own, 1).bool())
    video = VideoFeatures(torch.randn(own, 2, 64).requires_grad_(), torch.ones(own, 2).bool())
    batch = SimpleNamespace(clip_B=torch.arange(own), video_B=torch.arange(own))
    with FlopCounterMode(display=False) as counter:
        how = StepSettings(LossSettings(), folded=folded)
        objective(scorer, text, video, torch.tensor(1.0), batch, how)["loss"].backward()
    return counter.get_total_flops()


def main(cases, output):
    ranks = launched_ranks()
    with process_group(ranks, torch.device("cpu")):
        results = {name: loss_and_gradients(ranks, **how) for name, how in cases.items()}
        results["flops"] = {folded: flops_of_the_score(ranks, folded) for folded in (False, True)}
        if ranks.is_main:
            torch.save(results, output)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2])
