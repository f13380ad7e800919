"""The frame cache, the compressor and the indexer, killed at any moment: nothing wrong is left."""

import json
import shutil
import time

import pytest
import torch
from caches import served
from clips import make_clip
from compress_video import main as compress
from harness import kill, start, wait
from lists import write_lists
from small_index import clip, folder_of_clips, same, write_checkpoint
from work import index

from tvr.dataloaders.cache import main as fill_cache
from tvr.dataloaders.datasets import FrameSettings
from tvr.dataloaders.records import Clip
from tvr.search.store import Store

SETTINGS = FrameSettings(framerate=1.0, max_frames=4, resolution=224, decoder="decord")
CLIPS = 200


@pytest.fixture
def again(tmp_path, trials):
    """Trials of a builder that is killed once or twice and has to come to its end after that."""

    def run(scenario, short, long, begin, check, finished):
        """`begin(folder)` starts it there; both checks say what is wrong in the folder."""
        seconds = duration(begin, tmp_path)
        for trial in trials(scenario, short, long):
            folder = tmp_path / str(trial.number)
            for _ in range(trial.chance.choice((1, 2))):
                process = begin(folder)
                if wait(process, trial.chance.uniform(0, seconds)):
                    # its children are left to themselves in every other trial
                    stop = kill if trial.chance.random() < 0.5 else process.__class__.kill
                    stop(process)
                    process.join()
                    wrong, kept = check(folder)
                    trial.interrupted.append(kept)
                    trial.lost += wrong
            process = begin(folder)
            process.join()
            if process.exitcode:
                trial.lost.append(f"exit code {process.exitcode}")
            trial.lost += finished(folder)
            shutil.rmtree(folder)

    return run


def duration(begin, folder):
    """The seconds that it takes without interruption; the second time, when all is imported."""
    for name in ("first", "straight"):
        began = time.monotonic()
        process = begin(folder / name)
        process.join()
        assert process.exitcode == 0, (folder / name / "output").read_text()
    return time.monotonic() - began


def part(kept, whole):
    """A word for how much of the work was done."""
    return "nothing kept" if not kept else "all kept" if kept == whole else "part kept"


def test_frame_cache(tmp_path, again):
    anns, videos = tmp_path / "anns", tmp_path / "videos"
    anns.mkdir()
    videos.mkdir()
    ids = [f"video{i}" for i in range(CLIPS)]
    for i, name in enumerate(ids[:10]):
        make_clip(videos / f"{name}.mp4", 3 + i, size=(120, 160))
    live = [SETTINGS.read(Clip(name, videos / f"{name}.mp4")) for name in ids[:10]]
    for i, name in enumerate(ids[10:]):
        shutil.copy2(videos / f"video{i % 10}.mp4", videos / f"{name}.mp4")
    write_lists(anns, ids[5:], [(name, "a dog") for name in ids[:5]])
    said = [{"video_id": name, "caption": "a", "sen_id": i} for i, name in enumerate(ids)]
    (anns / "MSRVTT_data.json").write_text(json.dumps({"sentences": said}))
    clips = [Clip(name, videos / f"{name}.mp4") for name in ids]

    def begin(folder):
        argv = ["--anno_path", anns, "--video_path", videos, "--frame_cache", folder / "cache"]
        argv += ["--max_frames", 4, "--resolution", 224, "--allow_partial_gallery", 1]
        folder.mkdir(exist_ok=True)
        argv = [*map(str, argv), "--workers", "2"]
        return start(fill_cache, argv, output=folder / "output")

    def check(folder):
        found = dict(enumerate(served(folder / "cache", clips, SETTINGS)))
        there = {i: frames_FCHW for i, frames_FCHW in found.items() if frames_FCHW is not None}
        wrong = [ids[i] for i, f in there.items() if not torch.equal(f, live[i % 10])]
        return wrong, part(len(there), CLIPS)

    def finished(folder):
        wrong, kept = check(folder)
        return wrong + [kept] * (kept != "all kept")

    again("frame cache, SIGKILL", 3, 50, begin, check, finished)


def test_compressor(tmp_path, again):
    sources = tmp_path / "sources"
    sources.mkdir()
    for i in range(12):
        make_clip(sources / f"{i}.mp4", 50, fps="25", size=(240, 320))

    def begin(folder):
        folder.mkdir(exist_ok=True)
        argv = ["--input_root", sources, "--output_root", folder / "made", "--workers", 2]
        return start(compress, [*map(str, argv)], output=folder / "output")

    def content(folder):
        return {path.name: path.read_bytes() for path in (folder / "made").glob("[!.]*.mp4")}

    def check(folder):
        whole, found = content(tmp_path / "straight"), content(folder)
        wrong = [name for name, made in found.items() if made != whole[name]]
        return wrong, part(len(found), len(whole))

    def finished(folder):
        wrong, kept = check(folder)
        return wrong + [kept] * (kept != "all kept")

    again("compressor, SIGKILL", 3, 50, begin, check, finished)


def test_indexer(tmp_path, again):
    """What is searched is the index of before, or the one that was to be made."""
    videos = folder_of_clips(tmp_path / "videos")
    checkpoint = write_checkpoint(tmp_path / "model.pt")
    before = tmp_path / "before"
    before.mkdir()
    first = start(index, videos, before / "index", checkpoint, output=before / "output")
    first.join()
    for i in range(8):
        clip(videos / "later" / f"{i}.mp4", seconds=7 + i)

    def begin(folder):
        if not folder.exists():
            shutil.copytree(before, folder)
        output = folder / "output"
        return start(index, videos, folder / "index", checkpoint, output=output)

    def check(folder):
        made = len(Store.open(folder / "index").videos)
        expected = tmp_path / "straight" if made > 7 else before
        try:
            same(folder / "index", expected / "index")
        except AssertionError as error:
            return [str(error)], "wrong"
        return [], "the new index" if made > 7 else "the old index"

    def finished(folder):
        wrong, made = check(folder)
        return wrong + [made] * (made != "the new index")

    again("indexer, SIGKILL", 2, 50, begin, check, finished)
