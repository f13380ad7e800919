"""The last lines of `make demo`: GARE beside the baseline and chance, and where to look."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(demo: Path) -> None:
    evaluation = json.loads((demo / "evaluation" / "metrics.json").read_text())
    baseline = json.loads((demo / "baseline" / "metrics.json").read_text())
    videos = evaluation["protocol"]["videos"]
    chance = 100 / videos
    # The first result of a training run is its last epoch: no choice was made on the test videos
    rows = {"GARE": evaluation["results"][0], "baseline": baseline["results"][0]}
    print(f"\n{videos} unseen videos, one caption each; after the last epoch, same budget for both")
    print(f"{'':10}{'t2v R@1':>9}{'95 %':>16}{'R@5':>7}{'R@10':>7}{'x chance':>10}{'v2t R@1':>9}")
    for name, result in rows.items():
        t2v, (low, high) = result["t2v"], result["t2v"]["R@1 95%"]
        interval = f"{low:.1f} to {high:.1f}"
        print(
            f"{name:10}{t2v['R@1']:9.1f}{interval:>16}{t2v['R@5']:7.1f}{t2v['R@10']:7.1f}"
            f"{t2v['R@1'] / chance:10.0f}{result['v2t']['R@1']:9.1f}"
        )
    print(f"{'chance':10}{chance:9.1f}\n")
    print(f"checkpoint  {demo / 'gare' / 'checkpoint_last.pt'}")
    print(f"metrics     {demo / 'evaluation' / 'metrics.json'}")
    print(f"report      {demo / 'gare' / 'report.html'}")
    print(f"picture     {demo / 'evaluation' / 'contact_sheet.jpg'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
