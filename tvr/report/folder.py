"""What a run has left in its output folder, read back and checked."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvr.build import BEST, FROM_CHECKPOINT, LAST
from tvr.dataloaders.benchmarks import DATATYPES, has_validation, protocols
from tvr.dataloaders.reading import DECODERS
from tvr.output_folder import CONFIG
from tvr.rankings import BEST as RANKINGS_BEST
from tvr.rankings import EVALUATED, Ranking, ranked_result, rankings_file, read_rankings
from tvr.rankings import LAST as RANKINGS_LAST
from tvr.report.content import NUMBER, Content, is_number, read_content
from tvr.track import METRICS, read_records
from tvr.utils.errors import UserError
from tvr.utils.metrics import RECALLS

RESULTS = "metrics.json"
ARROWS = {"t2v": "text → video", "v2t": "video → text"}
DIRECTIONS = tuple(ARROWS)
NUMBERS = (*(f"R@{k}" for k in RECALLS), "MdR", "MnR")
INTERVAL = "R@1 95%"
EXAMPLES = 6  # of a run whose settings do not say how many
TEXT, COUNT = (str, type(None)), (int, type(None))

Metrics = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Result:
    """Metrics of one model by direction, and those that it was selected by if there are such."""

    label: str
    metrics: Metrics
    validation: Metrics | None
    checkpoint: str | None
    epoch: int | None
    step: int | None


@dataclass(frozen=True)
class ReportedRun:
    """An output folder's config.json, metrics.json and metrics.jsonl.

    `others` names the settings that are not the same in the first two.
    """

    folder: Path
    command: str
    started: str | None
    commit: str | None
    processes: int
    precision: str
    settings: dict[str, Any]
    environment: dict[str, Any]
    protocol: dict[str, Any]
    results: list[Result]
    records: list[dict[str, Any]]
    others: list[str]

    @property
    def is_training(self) -> bool:
        return self.settings["do_train"]

    @property
    def protocol_name(self) -> str:
        return self.settings["protocol"] or protocols(self.settings["datatype"])[0]

    @property
    def has_validation(self) -> bool:
        """Whether its benchmark has videos to select a checkpoint by, apart from the test split."""
        return has_validation(self.settings["datatype"], self.protocol_name)

    @property
    def main(self) -> Result:
        """The result to report: the selected one if others than the test videos decided; or raw."""
        if self.is_training:
            wanted = BEST if self.has_validation else LAST
            of_checkpoint = [each for each in self.results if each.checkpoint == wanted]
            return (of_checkpoint or self.results)[0]
        return self.results[ranked_result([each.label for each in self.results])]

    @property
    def rankings_path(self) -> Path:
        """The file with the rankings of `main`."""
        if not self.is_training:
            return rankings_file(self.folder, EVALUATED)
        name = RANKINGS_BEST if self.has_validation else RANKINGS_LAST
        return rankings_file(self.folder, name)


def read_run(folder: Path) -> ReportedRun:
    """What a run has left in `folder`, but for its rankings.

    Raises:
        UserError: it is no folder of a run that has come to an evaluation, or a file is damaged.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder. Name the output folder of a run.")
    config, metrics = read_content(folder / CONFIG), read_content(folder / RESULTS)
    settings, asked = checked_settings(metrics), config.plain("settings")
    return ReportedRun(
        folder,
        command=config.take("command", str),
        started=config.take("started", str) if "started" in config.values else None,
        commit=metrics.take("commit", TEXT),
        processes=metrics.take("processes", int),
        precision=metrics.take("precision", str),
        settings=settings,
        environment=metrics.plain("environment"),
        protocol=checked_protocol(metrics.inner("protocol")),
        results=[read_result(each) for each in metrics.each("results")],
        records=read_progress(folder / METRICS) if settings["do_train"] else [],
        others=[
            name
            for name, value in asked.items()
            if name not in FROM_CHECKPOINT and settings.get(name) != value
        ],
    )


def checked_settings(metrics: Content) -> dict[str, Any]:
    """All settings, those that the report itself needs checked, or completed in an old folder."""
    settings = metrics.inner("settings")
    settings.values.setdefault("report_examples", EXAMPLES)
    datatype = settings.one_of("datatype", DATATYPES)
    settings.one_of("protocol", (None, *protocols(datatype)))
    settings.one_of("video_decoder", DECODERS)
    for name in ("decode_timeout", "video_framerate"):
        settings.at_least_0(name, NUMBER)
    settings.at_least_0("report_examples")
    settings.take("do_train", bool)
    for name in ("increment", "anno_path", "video_path"):
        settings.take(name, str)
    settings.take("init_model", TEXT)
    return metrics.plain("settings")


def checked_protocol(protocol: Content) -> dict[str, Any]:
    """The protocol, with what is taken from it checked."""
    protocol.take("split", str)
    protocol.take("ties", str)
    protocol.take("complete_gallery", bool)
    for name in ("videos", "captions"):
        protocol.at_least_0(name)
        protocol.at_least_0(f"documented_{name}", COUNT)
    left_out = protocol.inner("left_out")
    for reason in left_out.values:
        left_out.at_least_0(reason)
    return protocol.values


def read_result(content: Content) -> Result:
    """One of the results in metrics.json."""
    return Result(
        content.take("label", str),
        read_metrics(content),
        read_metrics(content.inner("validation")) if "validation" in content.values else None,
        content.take("checkpoint", TEXT) if "checkpoint" in content.values else None,
        *(content.take(n, int) if n in content.values else None for n in ("epoch", "step")),
    )


def read_metrics(content: Content) -> Metrics:
    """The metrics of both directions."""
    return {direction: read_numbers(content.inner(direction)) for direction in DIRECTIONS}


def read_numbers(content: Content) -> dict[str, Any]:
    """The metrics of one direction."""
    interval = content.take(INTERVAL, list)
    if len(interval) != 2 or not all(map(is_number, interval)):
        raise content.wrong(INTERVAL, "is no pair of numbers")
    return {name: content.take(name, NUMBER) for name in NUMBERS} | {INTERVAL: interval}


def read_progress(path: Path) -> list[dict[str, Any]]:
    """The records of a training, none where there is no file.

    Raises:
        UserError: the file cannot be read, or holds something else.
    """
    try:
        records = read_records(path)
        if not records and path.exists() and path.stat().st_size:
            raise UserError(f"{path}: holds no record of a training. Delete it, or run again.")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    return records


def read_main_rankings(run: ReportedRun) -> tuple[list[Ranking], str]:
    """The rankings of the main result; where there are none, why not.

    Raises:
        UserError: the file is damaged.
    """
    path = run.rankings_path
    if not path.exists():
        return [], f"{path.name} is not there"
    try:
        found = read_rankings(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}).") from error
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path}: is damaged ({error}). Run again, or delete it.") from error
    if not all(each.direction in DIRECTIONS and each.rank >= 1 and each.best for each in found):
        raise UserError(f"{path}: is damaged: no direction, rank or candidate. Run again.")
    if not all(agrees(found, direction, run.main) for direction in DIRECTIONS):
        return [], f"{path.name} is of another result"
    return found, ""


def agrees(rankings: list[Ranking], direction: str, result: Result) -> bool:
    """Whether the result has the mean rank of the rankings."""
    ranks = [each.rank for each in rankings if each.direction == direction]
    mean = result.metrics[direction]["MnR"]
    return bool(ranks) and abs(sum(ranks) / len(ranks) - mean) < 1e-6 * mean
