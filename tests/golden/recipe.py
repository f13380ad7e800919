"""Weights and inputs of the golden numbers, the same in every NumPy (RandomState)."""

import zlib

import numpy as np

D, CTX, VOCAB = 512, 77, 49408
V_W, V_L, T_L, PATCH, RES = 64, 2, 4, 32, 224


def _arr(name, shape, std):
    r = np.random.RandomState(zlib.crc32(name.encode()) % (2**31))
    return (r.standard_normal(shape) * std).astype(np.float32)


def _block(p, w, d):
    d[p + "attn.in_proj_weight"] = _arr(p + "iw", (3 * w, w), w**-0.5)
    d[p + "attn.in_proj_bias"] = _arr(p + "ib", (3 * w,), 0.02)
    d[p + "attn.out_proj.weight"] = _arr(p + "ow", (w, w), w**-0.5)
    d[p + "attn.out_proj.bias"] = _arr(p + "ob", (w,), 0.02)
    for n in ("ln_1", "ln_2"):
        d[p + n + ".weight"] = 1 + _arr(p + n + "w", (w,), 0.1)
        d[p + n + ".bias"] = _arr(p + n + "b", (w,), 0.1)
    d[p + "mlp.c_fc.weight"] = _arr(p + "fw", (4 * w, w), w**-0.5)
    d[p + "mlp.c_fc.bias"] = _arr(p + "fb", (4 * w,), 0.02)
    d[p + "mlp.c_proj.weight"] = _arr(p + "pw", (w, 4 * w), (4 * w) ** -0.5)
    d[p + "mlp.c_proj.bias"] = _arr(p + "pb", (w,), 0.02)


def clip_state():
    d = {}
    g = RES // PATCH
    d["visual.class_embedding"] = _arr("ce", (V_W,), V_W**-0.5)
    d["visual.positional_embedding"] = _arr("vpe", (g * g + 1, V_W), V_W**-0.5)
    d["visual.proj"] = _arr("vproj", (V_W, D), V_W**-0.5)
    d["visual.conv1.weight"] = _arr("conv1", (V_W, 3, PATCH, PATCH), (3 * PATCH * PATCH) ** -0.5)
    for n in ("ln_pre", "ln_post"):
        d[f"visual.{n}.weight"] = 1 + _arr(n + "w", (V_W,), 0.1)
        d[f"visual.{n}.bias"] = _arr(n + "b", (V_W,), 0.1)
    for i in range(V_L):
        _block(f"visual.transformer.resblocks.{i}.", V_W, d)
    d["token_embedding.weight"] = _arr("te", (VOCAB, D), 0.02)
    d["positional_embedding"] = _arr("pe", (CTX, D), 0.01)
    d["ln_final.weight"] = 1 + _arr("lfw", (D,), 0.1)
    d["ln_final.bias"] = _arr("lfb", (D,), 0.1)
    d["text_projection"] = _arr("tp", (D, D), D**-0.5)
    d["logit_scale"] = np.float32(np.log(1 / 0.07))
    for i in range(T_L):
        _block(f"transformer.resblocks.{i}.", D, d)
    return d


PSI = "psi."


def psi_state():
    d = {}
    L = PSI + "layers.0."
    for n in ("q_proj", "k_proj", "v_proj", "out_proj"):
        d[f"{L}cross_attn.{n}.weight"] = np.eye(D, dtype=np.float32) * 0.5 + _arr(n, (D, D), 0.03)
        d[f"{L}cross_attn.{n}.bias"] = _arr(n + "b", (D,), 0.05)
    for n in ("linear1",):
        d[f"{L}{n}.weight"] = _arr(n, (D, D), 0.03)
        d[f"{L}{n}.bias"] = _arr(n + "b", (D,), 0.05)
    for n in ("layer_norm1", "layer_norm2", "layer_norm3"):
        d[f"{L}{n}.weight"] = 1 + _arr(n + "w", (D,), 0.1)
        d[f"{L}{n}.bias"] = _arr(n + "b", (D,), 0.1)
    d[PSI + "mean_proj.weight"] = _arr("mp", (D, D), 0.02)
    d[PSI + "mean_proj.bias"] = _arr("mpb", (D,), 0.02)
    return d


def inputs(n_text=6, n_video=6, frames=4, words=16, padded=False):
    r = np.random.RandomState(7)
    ids = np.zeros((n_text, words), np.int64)
    tm = np.zeros((n_text, words), np.int64)
    for i in range(n_text):
        n = int(r.randint(4, words - 2))
        ids[i, 0] = 49406
        ids[i, 1 : 1 + n] = r.randint(300, 40000, n)
        ids[i, 1 + n] = 49407
        tm[i, : n + 2] = 1
    video = r.standard_normal((n_video, frames, 3, RES, RES)).astype(np.float32)
    vm = np.ones((n_video, frames), np.int64)
    if padded:
        for i in range(n_video):
            k = 1 + i % frames
            vm[i, k:] = 0
            video[i, k:] = 0
    return ids, tm, video, vm
