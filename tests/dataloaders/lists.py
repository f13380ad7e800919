"""MSR-VTT's list files, made up."""

from __future__ import annotations

import csv
from pathlib import Path


def write_lists(folder: Path, train: list[str], test: list[tuple[str, str]]) -> None:
    """Both training lists and the test list (id, sentence) into `folder`."""
    for name in ("MSRVTT_train.9k.csv", "MSRVTT_train.7k.csv"):
        (folder / name).write_text("video_id\n" + "".join(f"{v}\n" for v in train))
    with (folder / "MSRVTT_JSFUSION_test.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["key", "vid_key", "video_id", "sentence"])
        for i, (video_id, sentence) in enumerate(test):
            writer.writerow([f"ret{i}", f"msr{i}", video_id, sentence])
