"""What a report is made of, copied and changed."""

import json
import shutil

from html_document import Document

from tvr.report.page import write_page

HOSTILE = '</title><script>alert("1")</script>\'"><img src=x onerror=alert(2)>{{ 7 * 4409 }}'
FILE_NAME = "<img src=x onerror=alert(3)>"
SETTINGS = ("metrics.json", "config.json")


def copied(folder, to):
    """What a report is made of."""
    to.mkdir(parents=True)
    for pattern in ("*.json", "*.jsonl", "*.csv"):
        for path in folder.glob(pattern):
            shutil.copy(path, to)
    return to


def change(path, edit):
    """Have `edit` change the content of a JSON file."""
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def record(step):
    """A log line of a training with `--log_increment 1`."""
    values = {"loss": 3 - step / 1000, "nce": 2.5 - step / 1000, "scale": 14.0, "grad_norm": 2.0}
    values |= {"ib": 1.0, "epsilon": -0.1, "dir": -0.5, "delta/norm": 2.0, "delta/norm_sd": 0.5}
    values |= {"lr/new": 1e-4, "lr/clip": 1e-7, "positive/angle_gap": 80.0}
    values |= {"negative/angle_gap": 85.0, "positive/angle_x": 60.0, "negative/angle_x": 65.0}
    return {"step": step, "epoch": 1, "split": "train", **values}


def spoil(content):
    """Put hostile texts wherever metrics.json has any."""
    content["results"][0] |= {"label": HOSTILE, "checkpoint": HOSTILE}
    content["environment"] = {HOSTILE: HOSTILE, "device": HOSTILE}
    content["settings"] |= {HOSTILE: HOSTILE, "temp": HOSTILE}
    content["protocol"] |= {"ties": HOSTILE, "left_out": {HOSTILE: 3}, "split": HOSTILE}
    content["commit"] = content["precision"] = HOSTILE


def read(path):
    return Document(path.read_text("utf-8"))


def made_again(folder):
    return read(write_page(folder))


def settings(folder, **changed):
    """Other settings of a run."""
    for name in SETTINGS:
        change(folder / name, lambda content: content["settings"].update(changed))
