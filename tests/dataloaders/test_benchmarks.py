import csv
import shlex

import formats
import pytest
from formats import touch
from lists import write_lists

from tvr.dataloaders.benchmarks import DATATYPES, has_validation, load_split, protocols
from tvr.dataloaders.check import main
from tvr.utils.errors import UserError


def test_registry():
    assert protocols("msrvtt") == ("9k", "7k", "full")
    assert [has_validation("msrvtt", name) for name in ("9k", "7k", "full")] == [False, True, True]
    assert DATATYPES["activitynet"] is DATATYPES["activity"]
    validated = {name for name in DATATYPES if has_validation(name, protocols(name)[0])}
    assert validated == {"msvd", "lsmdc", "didemo", "vatex"}


def test_train(annotations, videos):
    split = load_split("msrvtt", "9k", "train", annotations, videos)
    assert [clip.path.name for clip in split.clips] == [f"video{i}.mp4" for i in range(3)]
    assert split.video_of_caption() == [0, 0, 1, 1, 2, 2]
    assert "3 of 9,000 videos, 6 captions" in split.summary()


@pytest.mark.parametrize("flag", ["--anno_path", "--video_path"])
def test_missing_folder(annotations, videos, flag):
    folders = {"--anno_path": annotations, "--video_path": videos}
    folders[flag] = folders[flag] / "nowhere"
    with pytest.raises(UserError, match=f"{flag} .*nowhere: does not exist"):
        load_split("msrvtt", "9k", "train", *folders.values())


@pytest.mark.parametrize("allow", [False, True])
def test_missing_training_video(annotations, videos, allow):
    (videos / "video1.mp4").unlink()
    listed = annotations / "MSRVTT_train.9k.csv"
    with pytest.raises(UserError) as error:
        load_split("msrvtt", "9k", "train", annotations, videos, allow)
    message = str(error.value)
    assert "1 of the 3 train videos have no file there: video1 " in message
    assert f"(first: {listed}, row 2 (line 3))" in message
    assert "--allow_partial_training 1 to train without them" in message


def test_the_command_that_lists_all_missing_videos(annotations, videos, capsys, monkeypatch):
    for number in (0, 2):
        (videos / f"video{number}.mp4").unlink()
    videos = videos.rename(videos.with_name("my videos"))
    with pytest.raises(UserError) as error:
        load_split("msrvtt", "9k", "train", annotations, videos)
    command = shlex.split(str(error.value).rsplit(" listed by: ")[-1])
    assert command[:3] == ["python", "-m", "tvr.dataloaders.check"]
    monkeypatch.chdir(annotations)
    assert main(command[3:]) == 1
    with (annotations / "missing.csv").open(newline="") as file:
        found = [row for row in csv.reader(file) if row[3] == "no video file"]
    listed = annotations / "MSRVTT_train.9k.csv"
    assert found == [
        ["train", f"video{i}", f"{listed}, row {i + 1} (line {i + 2})", "no video file"]
        for i in (0, 2)
    ]


def test_partial_training(annotations, videos):
    (videos / "video1.mp4").unlink()
    split = load_split("msrvtt", "9k", "train", annotations, videos, allow_partial_training=True)
    assert [clip.video_id for clip in split.clips] == ["video0", "video2"]
    assert {caption.video_id for caption in split.captions} == {"video0", "video2"}
    assert split.left_out == {"videos without a file": 1}
    (videos / "video9.mp4").unlink()
    with pytest.raises(UserError, match="1 of the 2 test videos have no file"):
        load_split("msrvtt", "9k", "test", annotations, videos, allow_partial_training=True)
    for path in videos.iterdir():
        path.unlink()
    with pytest.raises(UserError, match="3 of the 3 train videos") as error:
        load_split("msrvtt", "9k", "train", annotations, videos, allow_partial_training=True)
    assert "--allow_partial_training" not in str(error.value)


def test_first_ten_missing_are_named(annotations, videos):
    write_lists(annotations, ["video0"], [(f"gone{i}", "a dog") for i in range(12)])
    with pytest.raises(UserError, match="12 of the 12 test videos") as error:
        load_split("msrvtt", "9k", "test", annotations, videos)
    assert "gone9, ..." in str(error.value)
    assert "gone10" not in str(error.value)


def test_partial_gallery(annotations, videos):
    with pytest.raises(UserError, match=r"2 videos.*1,000.*--allow_partial_gallery 1"):
        load_split("msrvtt", "9k", "test", annotations, videos)
    (videos / "video8.mp4").unlink()
    with pytest.raises(UserError, match=r"1 of the 2 test .*video8.*--allow_partial_gallery 1"):
        load_split("msrvtt", "9k", "test", annotations, videos)
    split = load_split("msrvtt", "9k", "test", annotations, videos, allow_partial_gallery=True)
    assert [clip.video_id for clip in split.clips] == ["video9"]
    assert [caption.text for caption in split.captions] == ["a man cooks"]
    assert split.left_out == {"videos without a file": 1}
    assert not split.is_complete()


def test_gallery_of_the_documented_size(annotations, videos):
    ids = [f"new{i}" for i in range(1_000)]
    write_lists(annotations, ["video0"], [(video_id, "a dog") for video_id in ids])
    for video_id in ids:
        (videos / f"{video_id}.avi").touch()
    assert load_split("msrvtt", "9k", "test", annotations, videos).is_complete()


def test_empty_gallery_is_never_allowed(annotations, videos):
    for path in videos.iterdir():
        path.unlink()
    with pytest.raises(UserError, match="2 of the 2"):
        load_split("msrvtt", "9k", "test", annotations, videos, allow_partial_gallery=True)


def test_one_file_is_not_two_videos(tmp_path):
    formats.write_activity(tmp_path)
    said = {"duration": 3, "sentences": ["A man runs."]}
    formats.write_json(tmp_path / "train_ids.json", ["x", "v_v_x"])
    formats.write_json(tmp_path / "train.json", {"x": said, "v_v_x": said})
    videos = touch(tmp_path / "videos", "v_x.mp4")
    with pytest.raises(UserError, match=r"v_x\.mp4: it would be the video of x and of v_v_x\."):
        load_split("activity", "standard", "train", tmp_path, videos)
    touch(videos, "v_v_x.mp4")
    split = load_split("activity", "standard", "train", tmp_path, videos)
    assert [clip.path.name for clip in split.clips] == ["v_x.mp4", "v_v_x.mp4"]


def test_videos_with_several_files_are_counted(annotations, videos):
    touch(videos, "raw/video0.avi", "raw/video2.avi", "raw/other.avi")
    split = load_split("msrvtt", "9k", "train", annotations, videos)
    assert [clip.path for clip in split.clips] == [videos / f"video{i}.mp4" for i in range(3)]
    example = f"{videos / 'video0.mp4'}, not {videos / 'raw/video0.avi'}"
    assert split.summary().endswith(f"; used as is: 2 videos with several files ({example})")


def test_segments_and_counts_reach_the_split(tmp_path):
    formats.write_activity(tmp_path)
    videos = touch(tmp_path / "videos", "QOlSCBRmfWY.mkv", "nobody_annotated_it.mp4")
    for name in ("activity", "activitynet"):
        split = load_split(name, "standard", "train", tmp_path, videos)
        (clip,) = split.clips
        assert (clip.start, clip.end, clip.path.name) == (0.0, 83.0, "QOlSCBRmfWY.mkv")
        assert split.left_out == {"listed videos without annotation": 1, "empty captions": 1}
        assert split.summary() == (
            f"{name} standard train: 1 of 10,009 videos, 1 captions (documented: 10,009); "
            "left out: 1 listed videos without annotation, 1 empty captions"
        )


def test_clips_without_segments_are_whole(annotations, videos):
    split = load_split("msrvtt", "9k", "train", annotations, videos)
    assert {(clip.start, clip.end) for clip in split.clips} == {(None, None)}


def test_odd_captions_are_used_and_counted(annotations, videos):
    odd = [("video8", "... !"), ("video9", "🐕 " + "very " * 2_000 + "long")]
    write_lists(annotations, ["video0"], odd)
    split = load_split("msrvtt", "9k", "test", annotations, videos, allow_partial_gallery=True)
    assert [caption.text for caption in split.captions] == [text for _, text in odd]
    assert split.summary().endswith(
        "; used as is: 1 captions without a letter or digit, 1 captions of over 1,000 characters"
    )
