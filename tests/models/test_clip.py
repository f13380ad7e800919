"""The CLIP towers against transformers' CLIP holding the same weights, and `build_backbone`."""

from pathlib import Path

import open_clip
import pytest
import torch
from openai_files import SIZES, VOCABULARY, random_state, write_archive
from transformers import CLIPConfig, CLIPModel

from tvr.models.archive import read_weights
from tvr.models.clip import (
    TINY,
    build_backbone,
    check_text_tower,
    frame_features,
    openai_model,
    project,
    text_tower,
    token_states,
)
from tvr.utils.errors import UserError

BLOCK = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


@pytest.fixture(scope="module")
def state():
    return random_state()


@pytest.fixture(scope="module")
def theirs(state):
    """transformers' CLIP with the weights of `state`, names converted here."""
    common = {"num_hidden_layers": SIZES["layers"], "hidden_act": "quick_gelu"}
    common |= {"layer_norm_eps": 1e-5, "projection_dim": SIZES["embed"]}

    def widths(width):
        return {
            **{"hidden_size": width, "intermediate_size": 4 * width},
            **{"num_attention_heads": width // 64, **common},
        }

    config = CLIPConfig(
        text_config={
            **widths(SIZES["text_width"]),
            **{"vocab_size": VOCABULARY, "max_position_embeddings": 77},
            **{"bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 0},
        },
        vision_config={
            **widths(SIZES["vision_width"]),
            **{"image_size": SIZES["image"], "patch_size": SIZES["patch"]},
        },
        projection_dim=SIZES["embed"],
        attn_implementation="eager",
    )
    converted = {
        "logit_scale": state["logit_scale"],
        "text_projection.weight": state["text_projection"].T,
        "visual_projection.weight": state["visual.proj"].T,
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "vision_model.embeddings.class_embedding": state["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": state["visual.positional_embedding"],
    }
    for kind in ("weight", "bias"):
        converted[f"text_model.final_layer_norm.{kind}"] = state[f"ln_final.{kind}"]
        # the misspelt name is transformers' own
        converted[f"vision_model.pre_layrnorm.{kind}"] = state[f"visual.ln_pre.{kind}"]
        converted[f"vision_model.post_layernorm.{kind}"] = state[f"visual.ln_post.{kind}"]
        for side, prefix in (("text", ""), ("vision", "visual.")):
            for layer in range(SIZES["layers"]):
                source = f"{prefix}transformer.resblocks.{layer}."
                target = f"{side}_model.encoder.layers.{layer}."
                for ours, other in BLOCK.items():
                    converted[f"{target}{other}.{kind}"] = state[f"{source}{ours}.{kind}"]
                stacked = state[f"{source}attn.in_proj_{kind}"].chunk(3)
                for letter, part in zip("qkv", stacked, strict=True):
                    converted[f"{target}self_attn.{letter}_proj.{kind}"] = part
    model = CLIPModel(config).eval()
    missing, unexpected = model.load_state_dict(converted, strict=False)
    assert not unexpected
    assert not [name for name in missing if not name.endswith("position_ids")]
    return model


@pytest.fixture(scope="module")
def ours(state, tmp_path_factory):
    return openai_model(state, tmp_path_factory.mktemp("clip"), half=False).eval()


CAPTIONS = ["a man is cooking", "two dogs!!", "", "x " * 40]


@torch.no_grad()
def test_frame_features_equal_those_of_transformers(ours, theirs):
    pixels = torch.randn(5, 3, SIZES["image"], SIZES["image"])
    features = frame_features(ours, pixels)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, theirs.get_image_features(pixels), rtol=0, atol=1e-5)
    assert (features.norm(dim=-1) - 1).abs().min() > 0.1  # not normalised


@torch.no_grad()
@pytest.mark.parametrize("length", [12, 32, 77])
def test_text_and_word_features_equal_those_of_transformers(ours, theirs, length):
    tokens = open_clip.tokenize(CAPTIONS, context_length=length)
    end = tokens.argmax(dim=1)
    words = project(ours, token_states(ours, tokens))
    assert words.shape == (len(CAPTIONS), length, SIZES["embed"])
    states = theirs.text_model(tokens).last_hidden_state
    torch.testing.assert_close(words, theirs.text_projection(states), rtol=0, atol=1e-5)
    text = words[torch.arange(len(CAPTIONS)), end]
    torch.testing.assert_close(text, theirs.get_text_features(tokens), rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_short_text_has_the_features_of_the_same_text_padded_to_77(ours):
    captions = CAPTIONS[:3]
    short = open_clip.tokenize(captions, context_length=12)
    words = project(ours, token_states(ours, short))
    text = words[torch.arange(len(captions)), short.argmax(dim=1)]
    padded = ours.encode_text(open_clip.tokenize(captions))
    torch.testing.assert_close(text, padded, rtol=0, atol=1e-5)


def test_single_precision_weights_keep_their_last_bits(ours, state):
    """open_clip's loader rounds to half precision on the way."""
    loaded = ours.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())
    weight = state["visual.conv1.weight"]
    assert not torch.equal(weight, weight.half().float())


def write_state(path, state):
    torch.save(state, path)
    return path


@pytest.mark.parametrize("write", [write_state, write_archive])
def test_a_path_may_hold_a_state_dict_or_an_archive(write, state, tmp_path):
    path = write(tmp_path / "clip.pt", state)
    backbone = build_backbone(str(path))
    assert (backbone.width, backbone.resolution) == (SIZES["embed"], SIZES["image"])
    assert backbone.mean == open_clip.OPENAI_DATASET_MEAN
    assert backbone.std == open_clip.OPENAI_DATASET_STD
    assert backbone.model.training
    loaded = backbone.model.state_dict()
    for name, value in state.items():
        stored = value.half().float() if write is write_archive else value
        assert loaded[name].dtype == torch.float32
        assert torch.equal(loaded[name], stored), name


def test_an_archive_gives_the_features_of_its_state_dict(state, tmp_path):
    """Checks the whole path once more where the numbers come out, QuickGELU included."""
    half = {name: value.half().float() for name, value in state.items()}
    expected = openai_model(half, tmp_path, half=False).eval()
    model = build_backbone(str(write_archive(tmp_path / "clip.pt", state))).model.eval()
    pixels = torch.randn(2, 3, SIZES["image"], SIZES["image"])
    tokens = open_clip.tokenize(CAPTIONS, context_length=20)
    with torch.no_grad():
        assert torch.equal(frame_features(model, pixels), frame_features(expected, pixels))
        assert torch.equal(token_states(model, tokens), token_states(expected, tokens))


def test_tiny_is_a_small_trainable_clip():
    backbone, size = build_backbone("tiny"), TINY["vision_cfg"]["image_size"]
    assert (backbone.width, backbone.resolution) == (128, size)
    assert sum(p.numel() for p in backbone.model.parameters()) < 10e6
    features = frame_features(backbone.model, torch.randn(2, 3, size, size))
    words = project(backbone.model, token_states(backbone.model, backbone.tokenize(["a"], 8)))
    assert (features.shape, words.shape) == ((2, 128), (1, 8, 128))
    (features.sum() + words.sum()).backward()
    without = [n for n, p in backbone.model.named_parameters() if p.grad is None]
    assert without == ["logit_scale"]


@pytest.mark.parametrize(
    ("name", "width", "resolution"),
    [("ViT-B/32", 512, 224), ("ViT-B/16", 512, 224), ("ViT-L/14", 768, 224)],
)
def test_named_backbones_without_their_weights_are_openais(name, width, resolution):
    # on the meta device nothing is allocated or initialised: these models are large
    with torch.device("meta"):
        backbone = build_backbone(name, pretrained=False)
    assert (backbone.width, backbone.resolution) == (width, resolution)
    blocks = backbone.model.transformer.resblocks
    assert type(blocks[0].mlp.gelu) is open_clip.transformer.QuickGELU
    assert backbone.model.text_projection.shape == (512 if width == 512 else 768, width)


MATRICES = ("in_proj_weight", "in_proj_bias", "out_proj", "c_fc", "c_proj", "conv1")


@pytest.mark.parametrize("kind", ["path", "tiny"])
def test_fp16_stores_matrices_in_half_and_runs_on_a_cpu(kind, state, tmp_path):
    name = "tiny" if kind == "tiny" else str(write_state(tmp_path / "clip.pt", state))
    backbone = build_backbone(name, precision="fp16")
    for parameter_name, parameter in backbone.model.named_parameters():
        is_matrix = any(f".{part}" in parameter_name for part in MATRICES)
        is_matrix = is_matrix or parameter_name in ("text_projection", "visual.proj")
        expected = torch.float16 if is_matrix else torch.float32
        assert parameter.dtype == expected, parameter_name
    model, full = backbone.model.eval(), build_backbone(name).model.eval()
    full.load_state_dict(model.state_dict())
    pixels = torch.randn(2, 3, backbone.resolution, backbone.resolution)
    tokens = backbone.tokenize(["a man is cooking"], 12)
    with torch.no_grad():
        features, words = frame_features(model, pixels), project(model, token_states(model, tokens))
        assert features.dtype == torch.float32
        assert words.dtype == torch.float16
        expected = frame_features(full, pixels)
        assert (features - expected).norm() < 0.02 * expected.norm()
        expected = project(full, token_states(full, tokens))
        assert (words - expected).norm() < 0.02 * expected.norm()
        assert not torch.equal(features, frame_features(full, pixels))


@pytest.mark.parametrize("name", ["ViT-B/99", "clip.pt", "/nowhere/clip.pt"])
def test_an_unknown_name_is_taken_for_a_path_that_is_missing(name):
    with pytest.raises(UserError, match=f"{name}: no such file"):
        build_backbone(name)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: {"epoch": 3, "state_dict": s},
        lambda s: {},
        lambda s: {n: v for n, v in s.items() if n != "visual.ln_post.bias"},
        lambda s: {**s, "psi.query.weight": torch.zeros(2)},
        lambda s: {**s, "ln_final.bias": torch.zeros(7)},
        lambda s: {0: torch.zeros(2)},
    ],
    ids=["nested", "empty", "incomplete", "something more", "wrong shape", "numbered"],
)
def test_another_state_dict_is_refused(change, tmp_path):
    path = write_state(tmp_path / "clip.pt", change(random_state(vocabulary=30)))
    with pytest.raises(UserError, match=f"(?s){path}: not a CLIP in OpenAI's format.*tiny"):
        build_backbone(str(path))


@pytest.mark.parametrize("width", [32, 0], ids=["narrower than a head", "no width"])
def test_a_state_dict_of_impossible_sizes_is_refused(width):
    state = random_state(vocabulary=30)
    state["ln_final.weight"] = torch.zeros(width)
    with pytest.raises(UserError, match="not a CLIP in OpenAI's format"):
        openai_model(state, Path("clip.pt"), half=False)


def test_a_file_without_weights_is_refused(tmp_path):
    path = tmp_path / "clip.pt"
    path.write_text("<html>404 Not Found</html>")
    with pytest.raises(UserError, match="not a readable weights file"):
        build_backbone(str(path))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("open_clip:NoSuchModel/openai", "knows no such model"),
        ("open_clip:unknown/tag", "knows no such model"),
        ("open_clip:ViT-B-32/no_such_tag", "its tags are: openai, laion"),
        ("open_clip:ViT-B-32", "its tags are: openai, laion"),
    ],
)
def test_an_unknown_open_clip_model_is_refused_with_what_there_is(name, hint):
    with pytest.raises(UserError, match=f"--base_encoder {name}: .*{hint}"):
        build_backbone(name)


VISION = {"image_size": 16, "patch_size": 8, "width": 64, "layers": 1}
TEXT = {"context_length": 77, "vocab_size": VOCABULARY, "width": 64, "heads": 1, "layers": 1}


@pytest.mark.parametrize("kind", [open_clip.CLIP, open_clip.CustomTextCLIP])
def test_clips_own_text_tower_is_accepted_inline_or_apart(kind):
    model = kind(embed_dim=32, vision_cfg=VISION, text_cfg=TEXT)
    check_text_tower(model, "open_clip:NAME/TAG")
    words = project(model, token_states(model, open_clip.tokenize(CAPTIONS, context_length=9)))
    text = words[torch.arange(4), open_clip.tokenize(CAPTIONS, context_length=9).argmax(dim=1)]
    expected = model.encode_text(open_clip.tokenize(CAPTIONS[:3]))
    torch.testing.assert_close(text[:3], expected, rtol=0, atol=1e-5)
    assert text_tower(model) is (model if kind is open_clip.CLIP else model.text)


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"no_causal_mask": True, "pool_type": "last"}, "attends to what follows.*pools by last"),
        ({"no_causal_mask": True}, "attends to what follows"),
        ({"pool_type": "last"}, "pools by last"),
        ({"embed_cls": True, "pool_type": "last"}, "pools by last"),
        ({"vocab_size": 32000}, "vocabulary has 32000"),
    ],
)
def test_another_text_tower_is_refused(change, seen):
    model = open_clip.CustomTextCLIP(embed_dim=32, vision_cfg=VISION, text_cfg={**TEXT, **change})
    with pytest.raises(UserError, match=f"--base_encoder some/name: its text tower.*{seen}"):
        check_text_tower(model, "some/name")


def test_the_extra_buffers_of_an_archive_are_no_weights(state, tmp_path):
    content = read_weights(write_archive(tmp_path / "clip.pt", state))
    assert {"input_resolution", "context_length", "vocab_size"} <= content.keys()
    model = openai_model(content, tmp_path / "clip.pt", half=False)
    assert "input_resolution" not in model.state_dict()
