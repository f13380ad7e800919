"""What the commands for made-up data sets share: the folder, the annotations, the encoding.

A set has parts, each with `anns` and `videos` in MSR-VTT's formats, and one manifest. A run that
was stopped goes on where it was.
"""

import csv
import io
import json
import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
from ffmpeg_tools import (
    UserError,
    find_ffmpeg,
    part_path,
    publish,
    remove_leftovers,
    write_text,
)
from made_up_drawing import FPS, HEIGHT, WIDTH, Image
from tqdm import tqdm


@dataclass(frozen=True)
class Video:
    """One video: its split, its captions (the first is a test video's query), what it shows."""

    is_train: bool
    seconds: float
    captions: list[str]
    shown: dict[str, Any]


@dataclass(frozen=True)
class Part:
    """Train videos and then test videos for one folder below the set's, "." being the set's own.

    `frames(k)` draws the frames of video k, BGR.
    """

    folder: str
    videos: list[Video]
    frames: Callable[[int], Iterable[Image]]

    def outputs(self, root: Path) -> list[Path]:
        """Return the path of every video, in order."""
        return [root / self.folder / "videos" / f"video{k}.mp4" for k in range(len(self.videos))]


@dataclass(frozen=True)
class MadeUpSet:
    """A whole set. `plan`, a dataclass, holds the flags that decide the content.

    `version` is raised when the same flags come to give other videos or captions.
    """

    manifest_name: str
    version: int
    plan: Any
    parts: list[Part]

    def manifest_text(self, complete: bool) -> str:
        """Return the manifest: the flags, and whether the set is complete."""
        record = {"version": self.version, **asdict(self.plan), "complete": complete}
        return json.dumps(record, indent=1) + "\n"


def flags_text(plan: Any) -> str:
    """Return a plan as it stands on a command line."""
    return " ".join(f"--{name} {value}" for name, value in asdict(plan).items())


def open_folder(output: Path, made: MadeUpSet) -> bool:
    """Make `output` ready for `made`; return whether the whole set is there already.

    Raises UserError where the folder holds something else: it is for the user to empty.
    """
    manifest = output / made.manifest_name
    try:
        if manifest.is_file():
            text = manifest.read_text(encoding="utf-8")
            if text not in (made.manifest_text(True), made.manifest_text(False)):
                raise UserError(
                    f"--output {output} holds videos of other flags than {flags_text(made.plan)} "
                    f"(see {manifest}); empty it, or name another folder"
                )
            names = (path for part in made.parts for path in part.outputs(output))
            if text == made.manifest_text(True) and all(path.is_file() for path in names):
                return True
        elif output.is_dir() and any(output.iterdir()):
            raise UserError(
                f"--output {output} is not empty and has no {made.manifest_name}; "
                "empty it, or name another folder"
            )
        for part in made.parts:
            (output / part.folder / "videos").mkdir(parents=True, exist_ok=True)
            (output / part.folder / "anns").mkdir(exist_ok=True)
        remove_leftovers(output)
        write_text(manifest, made.manifest_text(False))
    except OSError as error:
        raise UserError(f"--output {output}: {error}") from error
    return False


def _csv(rows: Iterable[tuple[str, ...]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def annotation_texts(videos: list[Video]) -> dict[str, str]:
    """Return the three annotation files' texts by name; the test videos come after the train."""
    ids: list[tuple[str]] = [("video_id",)]
    queries = [("key", "vid_key", "video_id", "sentence")]
    records: list[dict[str, Any]] = []
    sentences: list[dict[str, Any]] = []
    for index, video in enumerate(videos):
        video_id = f"video{index}"
        if video.is_train:
            ids.append((video_id,))
        else:
            queries.append((f"ret{len(queries) - 1}", f"msr{index}", video_id, video.captions[0]))
        records.append(
            {
                "id": index,
                "video_id": video_id,
                "split": "train" if video.is_train else "test",
                "start time": 0.0,
                "end time": video.seconds,
                "shown": video.shown,
            }
        )
        for text in video.captions:
            sentences.append({"video_id": video_id, "caption": text, "sen_id": len(sentences)})
    data = {"videos": records, "sentences": sentences}
    return {
        "MSRVTT_train.9k.csv": _csv(ids),
        "MSRVTT_JSFUSION_test.csv": _csv(queries),
        "MSRVTT_data.json": json.dumps(data, indent=1) + "\n",
    }


def encode(images: Iterable[Image], ffmpeg: str, output: Path) -> None:
    """Write BGR frames as one video. Raises UserError where ffmpeg cannot write it."""
    part = part_path(output)
    read = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{WIDTH}x{HEIGHT}", "-r", str(FPS)]
    write = ["-c:v", "libx264", "-preset", "ultrafast", "-crf", "20", "-threads", "1"]
    command = [ffmpeg, "-v", "error", "-y", *read, "-i", "-", *write, str(part)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        try:
            for image in images:
                process.stdin.write(cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420).data)
            process.stdin.close()
        except BrokenPipeError:
            pass  # ffmpeg gave up: it says why on stderr
        complaint = process.stderr.read().decode(errors="replace")
    if process.returncode != 0:
        part.unlink(missing_ok=True)
        raise UserError(f"ffmpeg could not write {output}: {' '.join(complaint.split())}")
    publish(part, output)


def render_all(made: MadeUpSet, root: Path, workers: int) -> None:
    """Render the videos that are not there yet, several at a time."""
    ffmpeg = find_ffmpeg()
    jobs = [
        (part, index, output)
        for part in made.parts
        for index, output in enumerate(part.outputs(root))
    ]
    missing = [job for job in jobs if not job[2].is_file()]

    def render(part: Part, index: int, output: Path) -> None:
        encode(part.frames(index), ffmpeg, output)

    executor = ThreadPoolExecutor(workers)
    try:
        futures = [executor.submit(render, *job) for job in missing]
        with tqdm(
            total=len(jobs),
            initial=len(jobs) - len(missing),
            desc="render",
            unit="video",
            disable=None,
        ) as bar:
            for future in as_completed(futures):
                future.result()
                bar.update()
    finally:
        executor.shutdown(cancel_futures=True)


def write_set(made: MadeUpSet, output: Path, workers: int) -> None:
    """Do the whole job, or what is left of it, and say what there is."""
    if open_folder(output, made):
        print(f"{output} is complete already; nothing to do")
        return
    cv2.setNumThreads(1)
    try:
        for part in made.parts:
            for name, text in annotation_texts(part.videos).items():
                write_text(output / part.folder / "anns" / name, text)
        render_all(made, output, workers)
        write_text(output / made.manifest_name, made.manifest_text(True))
    except OSError as error:
        raise UserError(f"--output {output}: {error}") from error
    for part in made.parts:
        train = sum(video.is_train for video in part.videos)
        print(f"{train} train and {len(part.videos) - train} test videos in {output / part.folder}")
