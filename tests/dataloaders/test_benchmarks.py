import pytest
from lists import write_lists

from tvr.dataloaders.benchmarks import has_validation, load_split, protocols
from tvr.utils.errors import UserError


def test_registry():
    assert protocols("msrvtt") == ("9k", "7k")
    assert not has_validation("msrvtt", "9k")


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
    with pytest.raises(UserError, match="1 of the 3 train videos have no file there: video1"):
        load_split("msrvtt", "9k", "train", annotations, videos, allow)


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
