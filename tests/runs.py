"""The flags of a user's runs of `main_retrieval.py`, and what the runs leave behind."""

import json
import sys

import torch
from programs import ROOT, run_program

MAIN = str(ROOT / "main_retrieval.py")
SMALL = (
    *("--base_encoder", "tiny", "--num_hidden_layers", 2, "--max_frames", 3, "--max_words", 16),
    *("--workers", 1, "--allow_partial_gallery", 1, "--batch_size_val", 4, "--device", "cpu"),
)
# of a training to interrupt: 40 steps in 2 epochs
LONGER = ("--epochs", 2, "--batch_size", 6, "--save_every", 3, "--n_display", 1)
LAUNCHERS = {
    "torchrun": ("-m", "torch.distributed.run", "--standalone"),
    "launch": ("-m", "torch.distributed.launch", "--master_port", 29517),
}


def data(shapes):
    return ("--anno_path", shapes / "anns", "--video_path", shapes / "videos_3fps")


def training(shapes, output, *flags):
    """The flags of a short training run."""
    return (
        *("--do_train", 1, "--epochs", 1, "--batch_size", 12, "--n_display", 3),
        *("--lr", 1e-3, "--coef_lr", 1, *SMALL, *data(shapes), "--output_dir", output, *flags),
    )


def evaluation(shapes, checkpoint, output, *flags):
    """The flags of an evaluation."""
    return (
        *("--do_eval", "--init_model", checkpoint, *SMALL, *data(shapes)),
        *("--output_dir", output, *flags),
    )


def program(*flags, launcher=()):
    """`main_retrieval.py` in processes of its own."""
    return run_program(sys.executable, *launcher, MAIN, *flags)


def results(folder):
    content = json.loads((folder / "metrics.json").read_text())
    return content, [{k: r[k] for k in ("t2v", "v2t")} for r in content["results"]]


def weights(folder, name="checkpoint_last.pt"):
    return torch.load(folder / name, weights_only=True)["model"]
