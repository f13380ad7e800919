"""One process of the gradient test: its share of a fixed global batch, one backward pass each.

usage: gradient_worker.py SETTINGS_JSON OUTPUT   (started alone or by torchrun)

SETTINGS_JSON maps a name to model settings; OUTPUT then maps it to the loss and the gradients.
"""

import json
import sys

import torch

from tvr.models.clip import build_backbone
from tvr.models.gare import GARE, ModelSettings
from tvr.models.losses import LossSettings, total_loss
from tvr.train import distribute
from tvr.utils.distributed import gather_with_grad, launched_ranks, process_group

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
    videos[7] = videos[2]  # the same video twice, on different ranks
    return tokens, frames, mask, videos


class Stand:
    """The part of a `Run` that `distribute` looks at."""

    def __init__(self, ranks):
        self.ranks, self.device = ranks, torch.device("cpu")


def loss_and_gradients(ranks, settings):
    torch.manual_seed(0)
    backbone = build_backbone("tiny")
    model = GARE(backbone, ModelSettings(base_encoder="tiny", **settings))
    size = BATCH // ranks.world_size
    share = slice(ranks.rank * size, (ranks.rank + 1) * size)
    tokens, frames, mask, videos = (part[share] for part in global_batch(backbone.resolution))
    wrapped = distribute(Stand(ranks), model)
    torch.manual_seed(1)  # the dropout of the step, as train_step seeds it
    scores, scale = wrapped(tokens, frames, mask)
    terms = total_loss(
        scores.sim_AB,
        scores.delta_ABD,
        scale,
        gather_with_grad(videos),
        LossSettings(same_video="ignore", lambda_dir=1.0, lambda_epsilon=1.0),
    )
    terms["loss"].backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    return {"loss": terms["loss"].detach(), "gradients": gradients}


def main(cases, output):
    ranks = launched_ranks()
    with process_group(ranks, torch.device("cpu")):
        results = {name: loss_and_gradients(ranks, settings) for name, settings in cases.items()}
        if ranks.is_main:
            torch.save(results, output)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2])
