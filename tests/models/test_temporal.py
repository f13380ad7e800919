"""The temporal modules against transcriptions by hand, one video, head and frame at a time."""

import math

import open_clip
import pytest
import torch

from tvr.models.temporal import SeqLSTM, SeqTransf
from tvr.utils.errors import UserError

WIDTH, HEADS, LAYERS, POSITIONS = 128, 2, 2, 9
VIDEOS, FRAMES = 3, 6
MASK = torch.arange(FRAMES) < torch.tensor([[6], [4], [1]])


def random_transf(width=WIDTH):
    """In double precision, with every parameter away from its neutral value."""
    generator = torch.Generator().manual_seed(6)
    module = SeqTransf(width, LAYERS, POSITIONS).double().eval()
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.double)
        parameter.data = noise / math.sqrt(width) if parameter.ndim == 2 else 0.5 + 0.3 * noise
    return module


def random_frames(scale=1.0):
    generator = torch.Generator().manual_seed(7)
    return scale * torch.randn(VIDEOS, FRAMES, WIDTH, generator=generator, dtype=torch.double)


def layer_norm(x, weight, bias):
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = centred.square().mean(dim=-1, keepdim=True)
    return centred / torch.sqrt(variance + 1e-12) * weight + bias


def attention(x, p):
    """Multi-head self-attention over the rows of x, with nothing masked."""
    head_width = WIDTH // HEADS
    q, k, v = (x @ p["attn.in_proj_weight"].T + p["attn.in_proj_bias"]).split(WIDTH, dim=1)
    heads = []
    for h in range(HEADS):
        part = slice(h * head_width, (h + 1) * head_width)
        exps = torch.exp(q[:, part] @ k[:, part].T / math.sqrt(head_width))
        heads.append(exps / exps.sum(dim=1, keepdim=True) @ v[:, part])
    return torch.cat(heads, dim=1) @ p["attn.out_proj.weight"].T + p["attn.out_proj.bias"]


def slow_transf(module, frames, lengths):
    """The real frames of each video on their own: what a correct key mask must amount to."""
    state = module.state_dict()
    videos = []
    for video, length in zip(frames, lengths, strict=True):
        x = video[:length] + state["position.weight"][:length]
        for layer in range(LAYERS):
            prefix = f"transformer.resblocks.{layer}."
            p = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            x = x + attention(layer_norm(x, p["ln_1.weight"], p["ln_1.bias"]), p)
            hidden = layer_norm(x, p["ln_2.weight"], p["ln_2.bias"])
            hidden = hidden @ p["mlp.c_fc.weight"].T + p["mlp.c_fc.bias"]
            hidden = hidden / (1 + torch.exp(-1.702 * hidden))
            x = x + hidden @ p["mlp.c_proj.weight"].T + p["mlp.c_proj.bias"]
        videos.append(x + video[:length])
    return videos


def test_seq_transf_equals_a_transcription_by_hand():
    module, frames = random_transf(), random_frames()
    with torch.no_grad():
        result = module(frames, MASK)
    for own, expected in zip(result, slow_transf(module, frames, MASK.sum(dim=1)), strict=True):
        torch.testing.assert_close(own[: len(expected)], expected, rtol=1e-9, atol=1e-9)


def test_the_norms_have_the_release_epsilon():
    """On features of size 1e-4 an eps of 1e-5 would keep LayerNorm from bringing them to 1."""
    module, frames = random_transf(), random_frames(1e-4)
    module.position.weight.data.zero_()
    with torch.no_grad():
        result = module(frames, MASK)
    for own, expected in zip(result, slow_transf(module, frames, MASK.sum(dim=1)), strict=True):
        torch.testing.assert_close(own[: len(expected)], expected, rtol=1e-6, atol=1e-6)


def test_padded_frames_do_not_change_real_ones():
    module, frames = random_transf(), random_frames()
    other = torch.where(MASK[..., None], frames, 100 + torch.randn_like(frames))
    with torch.no_grad():
        torch.testing.assert_close(module(other, MASK)[MASK], module(frames, MASK)[MASK])
        everything = torch.ones_like(MASK)
        assert not torch.allclose(module(other, everything)[MASK], module(frames, everything)[MASK])


@pytest.mark.parametrize("width", [96, 32, 65])
def test_a_width_without_whole_heads_is_refused(width):
    with pytest.raises(UserError, match=f"multiple of 64.*has {width}.*--agg_module"):
        SeqTransf(width, LAYERS, POSITIONS)


def text_tower(width=WIDTH, layers=LAYERS + 1, positions=POSITIONS, **more):
    """An open_clip CLIP whose text side has these sizes; its image side is as small as can be."""
    return open_clip.CLIP(
        embed_dim=WIDTH,
        vision_cfg={"image_size": 8, "patch_size": 8, "width": 8, "layers": 1, "head_width": 8},
        text_cfg={
            **{"context_length": positions, "vocab_size": 20, "width": width},
            **{"heads": width // 64, "layers": layers, **more},
        },
        quick_gelu=True,
    )


def test_the_start_is_an_exact_copy_of_the_first_text_blocks():
    tower, module = text_tower(), SeqTransf(WIDTH, LAYERS, POSITIONS)
    assert module.copy_from_text_tower(tower) is True
    assert torch.equal(module.position.weight, tower.positional_embedding)
    for own, block in zip(module.transformer.resblocks, tower.transformer.resblocks, strict=False):
        theirs = block.state_dict()
        assert own.state_dict().keys() == theirs.keys()
        assert all(torch.equal(value, theirs[name]) for name, value in own.state_dict().items())
    # a copy and not the same tensors: training one must not move the other
    with torch.no_grad():
        tower.positional_embedding.add_(1)
        tower.transformer.resblocks[0].mlp.c_fc.weight.add_(1)
    assert not torch.equal(module.position.weight, tower.positional_embedding)
    own = module.transformer.resblocks[0].mlp.c_fc.weight
    assert not torch.equal(own, tower.transformer.resblocks[0].mlp.c_fc.weight)


def test_the_copied_blocks_compute_what_the_text_blocks_compute():
    """Same weights and same formula; only the eps of the norms differs, hence the tolerance."""
    tower, module = text_tower(layers=LAYERS), SeqTransf(WIDTH, LAYERS, POSITIONS)
    module.copy_from_text_tower(tower)
    frames = torch.randn(2, POSITIONS, WIDTH)
    with torch.no_grad():
        own = module(frames, torch.ones(2, POSITIONS, dtype=torch.bool)) - frames
        theirs = tower.transformer(frames + tower.positional_embedding)
    torch.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "sizes",
    [
        {"layers": LAYERS - 1},
        {"positions": POSITIONS + 1},
        {"width": 192},
        {"mlp_ratio": 2.0},
        {"ls_init_value": 0.1},
    ],
    ids=["too few blocks", "other positions", "other width", "narrow MLP", "layer scale"],
)
def test_a_tower_that_does_not_fit_is_left_alone(sizes):
    module = SeqTransf(WIDTH, LAYERS, POSITIONS)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert module.copy_from_text_tower(text_tower(**sizes)) is False
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def slow_lstm(module, video):
    """One unidirectional layer from zero state, gate by gate, plus the input."""
    p = {name.removesuffix("_l0"): value for name, value in module.lstm.state_dict().items()}
    hidden = cell = torch.zeros(WIDTH, dtype=torch.double)
    rows = []
    for x in video:
        gates = p["weight_ih"] @ x + p["bias_ih"] + p["weight_hh"] @ hidden + p["bias_hh"]
        i, f, g, o = gates.split(WIDTH)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        hidden = torch.sigmoid(o) * torch.tanh(cell)
        rows.append(hidden + x)
    return torch.stack(rows)


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_seq_lstm_equals_a_loop_and_ignores_padding(order):
    torch.manual_seed(0)
    module, frames, mask = SeqLSTM(WIDTH).double(), random_frames()[order], MASK[order]
    other = torch.where(mask[..., None], frames, 100 + torch.randn_like(frames))
    with torch.no_grad():
        result, from_other = module(frames, mask), module(other, mask)
        assert result.shape == frames.shape
        for video, own, length in zip(frames, result, mask.sum(dim=1), strict=True):
            torch.testing.assert_close(own[:length], slow_lstm(module, video[:length]))
    torch.testing.assert_close(from_other[mask], result[mask], rtol=0, atol=0)
    # the LSTM stops at a video's end: of a padded frame only the input remains
    assert torch.equal(result[~mask], frames[~mask])


def test_seq_lstm_keeps_the_padded_length():
    """Also where no video of the batch is as long as the tensor."""
    module, short = SeqLSTM(64), torch.tensor([[True, True, False], [True, False, False]])
    assert module(torch.randn(2, 3, 64), short).shape == (2, 3, 64)
