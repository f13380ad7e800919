"""A checkpoint of ours as --base_encoder: its CLIP alone is taken."""

import pytest
import torch

from tvr.checkpoint import save_checkpoint
from tvr.models.clip import build_backbone
from tvr.models.gare import GARE, ModelSettings
from tvr.utils.errors import UserError


def test_the_clip_of_a_checkpoint_can_be_trained_on(tmp_path):
    torch.manual_seed(3)
    model = GARE(build_backbone("tiny"), ModelSettings(base_encoder="tiny"))
    path = tmp_path / "checkpoint_last.pt"
    save_checkpoint(path, model)
    taken = build_backbone(str(path)).model
    assert taken.training
    for name, weight in model.clip.state_dict().items():
        assert torch.equal(taken.state_dict()[name], weight), name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["settings"].update(base_encoder="ViT-B/16"), "not those of ViT-B/16"),
        (lambda c: c["settings"].update(base_encoder="/other/file.pt"), "only those of a named"),
        (lambda c: c["settings"].update(base_encoder=7), "only those of a named"),
        (lambda c: c.update(settings=None), "only those of a named"),
        (lambda c: c.update(model=[]), "only those of a named"),
        (lambda c: c["model"].pop("clip.text_projection"), "not those of tiny"),
        (lambda c: c["model"].update({"clip.logit_scale": 3}), "not those of tiny"),
    ],
)
def test_a_checkpoint_without_a_usable_clip_is_refused(tmp_path, change, said):
    model = GARE(build_backbone("tiny"), ModelSettings(base_encoder="tiny"))
    save_checkpoint(tmp_path / "whole.pt", model)
    content = torch.load(tmp_path / "whole.pt", weights_only=True)
    change(content)
    torch.save(content, tmp_path / "changed.pt")
    with pytest.raises(UserError, match=said):
        build_backbone(str(tmp_path / "changed.pt"))
