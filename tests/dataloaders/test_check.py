import csv
import os
import pickle
import sys
from collections import Counter
from pathlib import Path

import pytest
from clips import H264, make_clip
from formats import write_ids
from lists import write_lists
from programs import run_program

from tvr.dataloaders.check import main

# Videos and captions
SIZES = {"train": (2, 2), "val": (100, 4_290), "test": (670, 27_763)}


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """2 seconds at 3 frames per second, 64x48, its index at the start so that a cut shows late."""
    path = tmp_path_factory.mktemp("small") / "small.mp4"
    return make_clip(path, 6, size=(48, 64), encode=(*H264, "-movflags", "+faststart"))


@pytest.fixture
def complete(tmp_path, small):
    """A folder with an MSVD of the documented galleries, every video a link to one clip."""
    (tmp_path / "anns").mkdir()
    (tmp_path / "videos").mkdir()
    captions = {}
    for split, (n, said) in SIZES.items():
        ids = [f"{split}{i}_0_9" for i in range(n)]
        write_ids(tmp_path / f"anns/{split}_list.txt", ids)
        captions.update({v: [["a", "dog"]] * len(range(i, said, n)) for i, v in enumerate(ids)})
        for video_id in ids:
            os.link(small, tmp_path / f"videos/{video_id}.mp4")
    (tmp_path / "anns/raw-captions.pkl").write_bytes(pickle.dumps(captions))
    return tmp_path


@pytest.fixture
def msrvtt(annotations, videos, small):
    """The five videos of `annotations`, real ones; both galleries are too small."""
    for path in videos.iterdir():
        path.unlink()
        os.link(small, path)
    return annotations.parent


def arguments(root, *more, datatype="msrvtt"):
    paths = ("--anno_path", root / "anns", "--video_path", root / "videos")
    named = ("--csv", root / "found.csv", "--workers", 2)
    return [str(part) for part in ("--datatype", datatype, *paths, *named, *more)]


def rows(root):
    """The differences, without those of the documented sizes."""
    with (root / "found.csv").open(newline="") as file:
        found = list(csv.reader(file))
    assert found[0] == ["split", "video_id", "place", "problem"]
    assert not list(root.glob(".found*"))
    return [row for row in found[1:] if "documented are" not in row[3]]


def cut(path):
    """Replace a link by the first nine tenths of its content."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) * 9 // 10])


def test_command_accepts_a_complete_set(complete):
    command = (sys.executable, "-m", "tvr.dataloaders.check", *arguments(complete, "--decode"))
    done = run_program(*command, *("--datatype", "msvd"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "training: accepted\nevaluation: accepted\n" in done.stdout
    assert "anns: 4 (raw-captions.pkl, test_list.txt, train_list.txt, val_list" in done.stdout
    files = "test_list.txt, 670 rows\n  annotation file: raw-captions.pkl, 772 rows"
    assert f"\ntest\n  annotation file: {files}\n  ids: 670, documented" in done.stdout
    assert "  ids: 670, documented 670\n  captions: 27,763, documented 27,763\n" in done.stdout
    assert "  ids: 2, documented 1,200\n" in done.stdout
    assert "  videos: 100 found, 0 missing\n  unreadable: 0\n" in done.stdout
    assert "  seconds: min 2, median 2, max 2\n  fps: min 3, median 3, max 3\n" in done.stdout
    assert "  width: min 64, median 64, max 64\n  height: min 48," in done.stdout
    assert "total: 772 videos found, 0 missing, 0 unreadable\n" in done.stdout
    assert rows(complete) == []


def test_the_doctor_does_without_torch():
    code = "import sys, tvr.dataloaders.check; sys.exit('torch' in sys.modules)"
    done = run_program(sys.executable, "-c", code)
    assert done.returncode == 0, done.stderr


def test_damage_that_only_decoding_finds(complete, capsys):
    damaged = complete / "videos/val7_0_9.mp4"
    cut(damaged)
    assert main(arguments(complete, datatype="msvd")) == 0
    assert "only --decode finds" in capsys.readouterr().out
    assert rows(complete) == []
    assert main(arguments(complete, "--decode", datatype="msvd")) == 1
    out = capsys.readouterr().out
    assert "unreadable: 1 (val7_0_9)" in out
    assert f"training: refused: 1 of the val videos cannot be decoded: {damaged}: " in out
    assert "evaluation: accepted" in out
    ((split, video_id, path, problem),) = rows(complete)
    assert (split, video_id, path) == ("val", "val7_0_9", str(damaged))
    assert "is cut off" in problem


def test_missing_empty_and_unannotated_videos(msrvtt, capsys):
    (msrvtt / "videos/video1.mp4").unlink()
    (msrvtt / "videos/video8.mp4").rename(msrvtt / "videos/sub.mp4")
    for i in range(11):
        (msrvtt / f"videos/other{i:02}.avi").touch()
    (msrvtt / "videos/compress_report.csv").touch()
    (msrvtt / "videos/video0.mp4").unlink()
    (msrvtt / "videos/video0.mp4").touch()
    assert main(arguments(msrvtt)) == 1
    out = capsys.readouterr().out
    assert "  ids: 3, documented 9,000\n" in out
    assert "videos: 2 found, 1 (video1) missing\n  unreadable: 1 (video0)\n" in out
    assert "val\n" not in out
    assert "nobody annotated: 12 (other00.avi, " in out
    assert "other09.avi, ...)" in out
    assert "training: refused: --video_path" in out
    assert "1 of the 3 train videos have no file there: video1" in out
    assert "evaluation: refused: --video_path" in out
    assert "1 of the 2 test videos have no file there: video8" in out
    found = rows(msrvtt)
    places = [f"{msrvtt / 'anns'}/MSRVTT_{name}" for name in ("train.9k.csv", "JSFUSION_test.csv")]
    assert ["train", "video1", f"{places[0]}, row 2 (line 3)", "no video file"] in found
    assert ["test", "video8", f"{places[1]}, row 1 (line 2)", "no video file"] in found
    assert ["", "sub", str(msrvtt / "videos/sub.mp4"), "nobody annotated it"] in found
    (empty,) = [row for row in found if row[1] == "video0"]
    assert empty[2] == str(msrvtt / "videos/video0.mp4")
    assert "is empty (0 bytes)" in empty[3]
    assert len(found) == 3 + 12


def test_several_files_of_a_video(msrvtt, capsys):
    raw = msrvtt / "videos/raw"
    raw.mkdir()
    for name in ("video1.mkv", "v_video1.mp4"):
        (raw / name).touch()
    assert main(arguments(msrvtt, "--allow_partial_gallery")) == 0
    out = capsys.readouterr().out
    used = msrvtt / "videos/video1.mp4"
    example = f"{used} is used, not {raw / 'video1.mkv'}"
    assert f"  several files: 1 (video1)\n    {example}\n" in out
    assert "nobody annotated: 0\n" in out
    assert rows(msrvtt) == [
        ["train", "video1", str(raw / name), f"not used: {used} is"]
        for name in ("video1.mkv", "v_video1.mp4")
    ]


def test_wrong_gallery_size(msrvtt, capsys):
    assert main(arguments(msrvtt)) == 1
    out = capsys.readouterr().out
    for purpose in ("training", "evaluation"):
        assert f"{purpose}: refused: msrvtt 9k test: 2 of 1,000 videos" in out
    assert "documented are 1,000" in (msrvtt / "found.csv").read_text().replace('"', "")
    assert rows(msrvtt) == []


def verdicts(out):
    """Of training and evaluation."""
    return [line for line in out.splitlines() if line.startswith(("training: ", "evaluation: "))]


def test_partial_gallery_is_accepted_as_by_the_run(msrvtt, capsys):
    for allow in (("--allow_partial_gallery", 1), ("--allow_partial_gallery",)):
        assert main(arguments(msrvtt, *allow)) == 0
        assert verdicts(capsys.readouterr().out) == ["training: accepted", "evaluation: accepted"]
    assert main(arguments(msrvtt, "--allow_partial_gallery", 0)) == 1
    assert "evaluation: refused: msrvtt 9k test: 2 of 1,000 videos" in capsys.readouterr().out
    (msrvtt / "videos/video9.mp4").unlink()
    assert main(arguments(msrvtt, "--allow_partial_gallery", 1)) == 0
    assert [[row[0], row[1], row[3]] for row in rows(msrvtt)] == [
        ["test", "video9", "no video file"]
    ]
    (msrvtt / "videos/video1.mp4").unlink()
    capsys.readouterr()
    assert main(arguments(msrvtt, "--allow_partial_gallery", 1)) == 1
    training, evaluation = verdicts(capsys.readouterr().out)
    assert "refused: " in training
    assert "1 of the 3 train videos have no file there: video1" in training
    assert evaluation == "evaluation: accepted"
    both = ("--allow_partial_gallery", 1, "--allow_partial_training", 1)
    assert main(arguments(msrvtt, *both)) == 0
    assert verdicts(capsys.readouterr().out) == ["training: accepted", "evaluation: accepted"]


@pytest.mark.parametrize(
    ("test_list", "splits", "problem"),
    [
        # the training list is compared with the test list, so it needs one that can be read
        (
            [("video8", "a dog"), ("video8", "a cat")],
            ["train", "test"],
            "video8 is listed a second time",
        ),
        ([("video8", "a dog"), ("video9", "")], ["test"], "video9 has no caption"),
    ],
)
def test_annotation_problem(msrvtt, capsys, test_list, splits, problem):
    write_lists(msrvtt / "anns", ["video0", "video1", "video2"], test_list)
    assert main(arguments(msrvtt)) == 1
    out = capsys.readouterr().out
    assert f"nobody annotated: not known without the {' and '.join(splits)} list" in out
    assert ("  ids: 3, documented 9,000\n" in out) == ("train" not in splits)
    refusals = [line for line in out.splitlines() if "refused: " in line and problem in line]
    assert {line.split(":")[0] for line in refusals} == {"training", "evaluation"}
    found = rows(msrvtt)
    assert [row[:3] for row in found] == [[split, "", str(msrvtt / "anns")] for split in splits]
    assert all(problem in row[3] for row in found)


def test_rows_left_out_and_default_list(msrvtt, capsys, monkeypatch):
    monkeypatch.chdir(msrvtt)
    paths = ("--anno_path", "anns", "--video_path", "videos", "--protocol", "7k")
    listed = (msrvtt / "anns/MSRVTT_train.7k.csv").read_text()
    (msrvtt / "anns/MSRVTT_train.7k.csv").write_text(listed + "video6513\n")
    assert main(["--datatype", "msrvtt", *paths]) == 1
    out = capsys.readouterr().out
    assert "left out: 1 validation videos" in out
    assert "\n  annotations: anns/MSRVTT_data.json: no captions of the 497 official val" in out
    assert "listed in data_check.csv" in out
    found = (msrvtt / "data_check.csv").read_text()
    assert "\nval,,anns," in found
    place = '"anns/MSRVTT_train.7k.csv, row 4 (line 5)"'
    assert f"\ntrain,video6513,{place},left out: validation videos\n" in found


def test_user_errors(msrvtt, capsys):
    for more, message in [
        (("--video_path", "nowhere"), "--video_path nowhere: does not exist"),
        (("--anno_path", "nowhere"), "--anno_path nowhere: does not exist"),
        (("--protocol", "8k"), "--protocol 8k: msrvtt has 9k, 7k, full"),
        (("--csv", "nowhere/found.csv"), "--csv nowhere/found.csv: cannot be written"),
    ]:
        assert main(arguments(msrvtt, *more)) == 2
        assert f"error: {message}" in capsys.readouterr().err
    for more in (
        *(("--datatype", "other"), ("--workers", "0"), ("--framerate", "nan")),
        *(("--allow_partial_gallery", "yes"), ("--allow_partial_training", "yes")),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(arguments(msrvtt, *more))
        assert stopped.value.code == 2
    assert not (msrvtt / "found.csv").exists()


def test_folders_are_walked_and_files_read_once(msrvtt, monkeypatch):
    (msrvtt / "videos/raw").mkdir()
    looked_at = Counter()
    for owner, name in ((os, "scandir"), (Path, "read_bytes")):
        original = getattr(owner, name)

        def counted(path, original=original):
            looked_at[str(path)] += 1
            return original(path)

        monkeypatch.setattr(owner, name, counted)
    assert main(arguments(msrvtt)) == 1
    expected = {
        "videos": 1,
        "videos/raw": 1,
        "anns/MSRVTT_train.9k.csv": 1,
        "anns/MSRVTT_data.json": 1,
        # for the test videos, and because no training video may be one
        "anns/MSRVTT_JSFUSION_test.csv": 2,
    }
    assert {name: looked_at[str(msrvtt / name)] for name in expected} == expected


def test_decoder_that_is_not_installed(msrvtt, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "decord", None)
    assert main(arguments(msrvtt, "--decode")) == 2
    assert "error: --video_decoder decord: decord cannot be imported" in capsys.readouterr().err
    assert main(arguments(msrvtt, "--decode", "--video_decoder", "opencv")) == 1
    assert "total: 5 videos found, 0 missing, 0 unreadable" in capsys.readouterr().out
