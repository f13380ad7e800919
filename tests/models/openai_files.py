"""Writes files as OpenAI published CLIP, with random weights and small sizes."""

import torch
from torch import nn

SIZES = {"image": 16, "patch": 8, "vision_width": 128, "text_width": 64, "embed": 96, "layers": 2}
VOCABULARY, CONTEXT = 49408, 77


def random_state(seed=0, vocabulary=VOCABULARY):
    """A state dict with OpenAI's names. Heads are 64 wide there, so widths are multiples of 64."""
    generator = torch.Generator().manual_seed(seed)
    s = SIZES

    def noise(*shape, centre=0.0, scale=0.1):
        return centre + scale * torch.randn(*shape, generator=generator)

    def norm(name, width):
        return {f"{name}.weight": noise(width, centre=1.0), f"{name}.bias": noise(width)}

    def linear(name, rows, columns):
        return {f"{name}.weight": noise(rows, columns), f"{name}.bias": noise(rows)}

    def blocks(prefix, width):
        state = {}
        for layer in range(s["layers"]):
            name = f"{prefix}transformer.resblocks.{layer}"
            state |= {f"{name}.attn.in_proj_weight": noise(3 * width, width)}
            state |= {f"{name}.attn.in_proj_bias": noise(3 * width)}
            state |= linear(f"{name}.attn.out_proj", width, width)
            state |= norm(f"{name}.ln_1", width)
            state |= linear(f"{name}.mlp.c_fc", 4 * width, width)
            state |= linear(f"{name}.mlp.c_proj", width, 4 * width)
            state |= norm(f"{name}.ln_2", width)
        return state

    vision, text, patch = s["vision_width"], s["text_width"], s["patch"]
    return {
        "positional_embedding": noise(CONTEXT, text),
        "text_projection": noise(text, s["embed"]),
        "logit_scale": torch.tensor(4.6052),
        "visual.class_embedding": noise(vision),
        "visual.positional_embedding": noise((s["image"] // patch) ** 2 + 1, vision),
        "visual.proj": noise(vision, s["embed"]),
        "visual.conv1.weight": noise(vision, 3, patch, patch),
        **norm("visual.ln_pre", vision),
        **blocks("visual.", vision),
        **norm("visual.ln_post", vision),
        **blocks("", text),
        "token_embedding.weight": noise(vocabulary, text),
        **norm("ln_final", text),
    }


class Node(nn.Module):
    """A module that only holds what it is given."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def module_tree(state):
    """Modules whose state dict is `state`."""
    root = Node()
    for name, value in state.items():
        *path, leaf = name.split(".")
        node = root
        for part in path:
            if not hasattr(node, part):
                node.add_module(part, Node())
            node = getattr(node, part)
        if value.is_floating_point():
            node.register_parameter(leaf, nn.Parameter(value, requires_grad=False))
        else:
            node.register_buffer(leaf, value)
    return root


def write_archive(path, state):
    """A TorchScript archive, half precision, with the three extra buffers, as OpenAI wrote them."""
    half = {name: value.half() for name, value in state.items()}
    half |= {
        "input_resolution": torch.tensor(SIZES["image"]),
        "context_length": torch.tensor(CONTEXT),
        "vocab_size": torch.tensor(VOCABULARY),
    }
    torch.jit.save(torch.jit.script(module_tree(half)), path)
    return path
