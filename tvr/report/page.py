"""report.html: what a run did, how well, and examples; one file without scripts or network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tvr.build import BEST, Run
from tvr.dataloaders.records import Split
from tvr.pages.html import environment, style
from tvr.pages.pictures import data_address
from tvr.presets import deviations
from tvr.rankings import KEPT, SO_FAR, Ranking
from tvr.report.charts import Chart, drawn
from tvr.report.chosen import BUCKETS, bucket_name, choose, histogram
from tvr.report.curves import charts
from tvr.report.examples import (
    Data,
    data_found,
    data_of,
    previews,
    text_to_video,
    video_to_text,
)
from tvr.report.folder import (
    ARROWS,
    DIRECTIONS,
    INTERVAL,
    NUMBERS,
    ReportedRun,
    read_main_rankings,
    read_run,
)
from tvr.utils.errors import LocalError, UserError
from tvr.utils.files import replacing

HERE = Path(__file__).parent
REPORT = "report.html"
MOST_CHARACTERS = 400  # of a text or a name that others have written


def write_report(run: Run, split: Split) -> None:
    """Write the report of a run that is over, on the main process; `split` is the test split.

    A run whose files cannot be read back ends without a report, and the log says why.

    Raises:
        LocalError: it cannot be written.
    """
    if not run.ranks.is_main:
        return
    try:
        path = write_page(run.output_dir, data_of(split))
    except LocalError:
        raise
    except UserError as error:
        run.log.warning("warning: no %s: %s", REPORT, error)
        return
    run.log.info("wrote %s", path)


def write_page(folder: Path, data: Data | None = None) -> Path:
    """Write the report of what is in an output folder, and return its path.

    Without `data` the captions and videos are looked for where the run had them.

    Raises:
        UserError: see `read_run` and `read_main_rankings`.
        LocalError: it cannot be written.
    """
    run = read_run(folder)
    rankings, no_rankings = read_main_rankings(run)
    page = render(run, rankings, no_rankings, data_found(run) if data is None else data)
    path = folder / REPORT
    with replacing(path) as file:
        file.write(page.encode(errors="backslashreplace"))
    return path


def render(run: ReportedRun, rankings: list[Ranking], no_rankings: str, data: Data) -> str:
    """The report as one HTML document."""
    templates = environment(HERE / "templates")
    templates.filters.update(value=value, short=shortened)
    names = [bucket_name(*bucket) for bucket in BUCKETS]
    return templates.get_template("report.html").render(
        style=style(HERE / "static" / "report.css"),
        run=run,
        title=run.folder.absolute().name,
        kind=kind(run),
        facts=facts(run),
        protocol=protocol(run),
        warnings=warnings(run),
        numbers=NUMBERS,
        interval=INTERVAL,
        arrows=ARROWS,
        charts=[(chart, *addresses(chart)) for chart in charts(run.records)],
        ranks=list(zip(names, *(histogram(rankings, each) for each in DIRECTIONS), strict=True)),
        queries=[sum(each.direction == one for each in rankings) for one in DIRECTIONS],
        no_rankings=no_rankings,
        trouble=data.trouble,
        examples=examples(run, rankings, data),
        kept=KEPT,
        deviations=deviations(run.settings),
    )


def kind(run: ReportedRun) -> str:
    """What kind of run it was, in a few words."""
    if not run.is_training and run.settings["init_model"] is None:
        return "Evaluation of CLIP alone, zero-shot"
    what = "GARE" if run.settings["increment"] == "gare" else "the baseline, without Δ"
    return f"{'Training' if run.is_training else 'Evaluation'} of {what}"


def facts(run: ReportedRun) -> dict[str, str]:
    """What was run, on what, when, and by which code."""
    protocol = run.protocol
    videos = f"{protocol['videos']:,}"
    if protocol["documented_videos"] is not None:
        videos += f" of {protocol['documented_videos']:,}"
    device = run.environment.get("device", "an unknown device")
    processes = "1 process" if run.processes == 1 else f"{run.processes} processes"
    found = {
        "Test": f"{protocol['split']}: {videos} videos, {protocol['captions']:,} captions",
        "Checkpoint": ", ".join(dict.fromkeys(checkpoints(run))),
        "Machine": f"{processes} on {device}, precision {run.precision}",
        "Started": run.started or "",
        "Code": run.commit or "",
    }
    return {name: fact for name, fact in found.items() if fact}


def protocol(run: ReportedRun) -> dict[str, str]:
    """The protocol as it is shown."""
    told, found = run.protocol, {"Split": run.protocol["split"]}
    for what in ("videos", "captions"):
        documented = told[f"documented_{what}"]
        known = "" if documented is None else f"; documented: {documented:,}"
        found[what.capitalize()] = f"{told[what]:,}{known}"
    left_out = [f"{count:,} {reason}" for reason, count in told["left_out"].items()]
    found["Complete gallery"] = "yes" if told["complete_gallery"] else "no"
    return found | {"Left out": "; ".join(left_out) or "nothing", "Ties": told["ties"]}


def checkpoints(run: ReportedRun) -> list[str]:
    """The results' checkpoints, with epoch and step where they are known."""
    told = []
    for result in run.results:
        where = [f"{n} {getattr(result, n)}" for n in ("epoch", "step") if getattr(result, n)]
        if result.checkpoint is not None:
            told.append(result.checkpoint + (f" ({', '.join(where)})" if where else ""))
    return told


def warnings(run: ReportedRun) -> list[str]:
    """What keeps the numbers from being compared with others."""
    found, protocol = [], run.protocol
    if not protocol["complete_gallery"]:
        counts = [
            f"{protocol[what]:,} {what} of {protocol[f'documented_{what}']:,}"
            for what in ("videos", "captions")
            if protocol[f"documented_{what}"] is not None
        ]
        found.append(
            f"The gallery is partial: {', '.join(counts)}. A smaller gallery is easier: these "
            "numbers do not compare with those of the whole."
        )
    found += [f"Left out: {count:,} {reason}." for reason, count in protocol["left_out"].items()]
    if run.results[0].label.startswith(SO_FAR):
        found.append(f"This training has not ended ({run.results[0].label}).")
    selected = [each.label for each in run.results if each.checkpoint == BEST]
    if run.is_training and not run.has_validation and selected:
        found.append(
            f"“{selected[0]}” was selected by the numbers that it has here, so they are too good. "
            "Report the last epoch."
        )
    if run.others:
        found.append(
            "config.json and metrics.json are not of the same run, or it went on with other "
            f"settings: {', '.join(run.others)}."
        )
    return found


def examples(run: ReportedRun, rankings: list[Ranking], data: Data) -> dict[str, Any]:
    """The chosen queries of both directions; nothing where none are wanted."""
    count = run.settings["report_examples"]
    if not count or not rankings:
        return {}
    made = previews(run, data)
    texts, videos = (choose(rankings, direction, count) for direction in DIRECTIONS)
    found = {
        "texts": texts,
        "videos": videos,
        "successes": [text_to_video(each, data, made) for each in texts.successes],
        "failures": [text_to_video(each, data, made) for each in texts.failures],
        "video_failures": [video_to_text(each, data, made) for each in videos.failures],
    }
    made.close()
    return found


def addresses(chart: Chart) -> Sequence[str]:
    """The chart for light and for dark pages, as addresses."""
    return [data_address(picture, "image/svg+xml") for picture in drawn(chart)]


def value(setting: Any) -> str:
    """A setting as the command line has it."""
    if setting is None:
        return "none"
    if isinstance(setting, float):
        return f"{setting:.12g}"
    return str(int(setting)) if isinstance(setting, bool) else str(setting)


def shortened(text: str) -> str:
    """A text that others have written, cut where it would be too long to read."""
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"
