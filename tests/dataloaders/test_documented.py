"""Which galleries have the documented size, and which videos and captions are excused from it."""

import pickle

import formats
import pytest
from formats import PIANIST, SPARKLE, UNREADABLE, touch, write_ids, write_json

from tvr.dataloaders import didemo
from tvr.dataloaders.benchmarks import load_split
from tvr.utils.errors import UserError


def test_known_broken_videos_are_excused(tmp_path):
    formats.write_lsmdc(tmp_path)
    rows = "".join(formats.lsmdc_row(f"9999_X_{i}.0-{i}.5", "He runs.") for i in range(998))
    path = tmp_path / "LSMDC16_challenge_1000_publictect.csv"
    path.write_text(path.read_text() + rows)
    names = [f"9999_X/9999_X_{i}.0-{i}.5.avi" for i in range(998)]
    videos = touch(tmp_path / "videos", *names, f"flat/{SPARKLE}.mp4")
    split = load_split("lsmdc", "standard", "test", tmp_path, videos)
    assert len(split.clips) == len(split.captions) == 999
    assert split.is_complete()
    assert split.left_out == {f"known broken videos without a file ({PIANIST})": 1}
    assert "999 of 1,000 videos, 999 captions (documented: 1,000); left out: 1 known broken " in (
        split.summary()
    )
    touch(videos, f"0017_Pianist/{PIANIST}.avi")
    split = load_split("lsmdc", "standard", "test", tmp_path, videos)
    assert len(split.clips) == 1_000
    assert split.left_out == {}
    (videos / "9999_X/9999_X_5.0-5.5.avi").unlink()
    with pytest.raises(UserError, match=r"1 of the 1,000 test videos.*9999_X_5\.0-5\.5 "):
        load_split("lsmdc", "standard", "test", tmp_path, videos)


def test_known_broken_videos_may_be_removed_from_the_list(tmp_path):
    formats.write_lsmdc(tmp_path)
    rows = [formats.lsmdc_row(f"9999_X_{i}.0-{i}.5", "He runs.") for i in range(998)]
    path = tmp_path / "LSMDC16_challenge_1000_publictect.csv"
    path.write_text(path.read_text().split("\n")[0] + "\n" + "".join(rows))
    names = [f"9999_X_{i}.0-{i}.5.avi" for i in range(998)]
    videos = touch(tmp_path / "videos", *names)
    # one is not listed, another one is and has no file
    split = load_split("lsmdc", "standard", "test", tmp_path, videos)
    assert (len(split.clips), split.excused_videos, split.is_complete()) == (998, 2, True)
    line = split.summary()
    assert "998 of 1,000 videos, 998 captions (documented: 1,000); left out: 3 known broken" in line
    assert f", {SPARKLE}), 1 known broken videos without a file ({PIANIST})" in line
    path.write_text("".join(rows[:-1]))
    touch(videos, f"{PIANIST}.avi")
    assert load_split("lsmdc", "standard", "test", tmp_path, videos).is_complete()
    path.write_text("".join(rows[:-3]))
    with pytest.raises(UserError, match=r"995 videos, documented are 1,000; 995 captions"):
        load_split("lsmdc", "standard", "test", tmp_path, videos)


@pytest.mark.parametrize(("n", "removed"), [(1_001, 3), (1_003, 1), (1_000, 0)])
def test_unreadable_videos_removed_from_the_didemo_list(tmp_path, n, removed):
    formats.write_didemo(tmp_path)
    unreadable = sorted(didemo.UNREADABLE)[removed:]
    names = [f"{i}@N00_{i}_ab.mp4" for i in range(n - len(unreadable))] + unreadable
    write_ids(tmp_path / "test_list.txt", names)
    entries = [formats.didemo_entry(i, name, "a boat") for i, name in enumerate(names)]
    write_json(tmp_path / "test_data.json", entries)
    videos = touch(tmp_path / "videos", *names)
    if n + removed == 1_004:
        split = load_split("didemo", "standard", "test", tmp_path, videos)
        assert split.is_complete()
        (reason,) = split.left_out
        assert all((name in reason) == (name not in names) for name in didemo.UNREADABLE)
    else:
        with pytest.raises(UserError, match=r"1,000 videos, documented are 1,004"):
            load_split("didemo", "standard", "test", tmp_path, videos)


def captioned(folder, change):
    """The full MSR-VTT test split with 20 captions a video, after `change` of the rows."""
    ids = [f"video{number}" for number in range(7_010, 10_000)]
    rows = [{"video_id": v, "caption": f"take {k}"} for v in ids for k in range(20)]
    write_json(folder / "MSRVTT_data.json", {"sentences": change(rows)})
    return touch(folder / "videos", *(f"{video_id}.mp4" for video_id in ids))


def test_wrong_number_of_captions(tmp_path):
    videos = captioned(tmp_path, lambda rows: rows)
    assert load_split("msrvtt", "full", "test", tmp_path, videos).is_complete()
    captioned(tmp_path, lambda rows: rows[::2])
    message = r"has 29,900 captions, documented are 59,800: .*--allow_partial_gallery 1"
    with pytest.raises(UserError, match=message):
        load_split("msrvtt", "full", "test", tmp_path, videos)
    split = load_split("msrvtt", "full", "test", tmp_path, videos, allow_partial_gallery=True)
    assert (len(split.clips), split.is_complete()) == (2_990, False)
    captioned(tmp_path, lambda rows: [*rows[1:], {"video_id": "video7010", "caption": ""}])
    with pytest.raises(UserError, match=r"1 empty captions.* 59,799 captions, documented are"):
        load_split("msrvtt", "full", "test", tmp_path, videos)


def test_msvd_counts_its_empty_captions(tmp_path):
    ids = [f"vid{i}_0_9" for i in range(100)]
    write_ids(tmp_path / "val_list.txt", ids)
    videos = touch(tmp_path / "videos", *(f"{video_id}.avi" for video_id in ids))

    def load(last):
        captions = {video_id: [["a", "dog"]] * 42 for video_id in ids}
        captions[ids[0]] += [["a", "cat"]] * 89 + [last]
        (tmp_path / "raw-captions.pkl").write_bytes(pickle.dumps(captions))
        return load_split("msvd", "standard", "val", tmp_path, videos)

    assert len(load(["a", "cow"]).captions) == 4_290
    split = load([])
    assert (len(split.captions), split.is_complete()) == (4_289, True)
    assert split.left_out == {"empty captions": 1}


def test_an_excused_video_takes_its_captions_along(tmp_path):
    formats.write_lsmdc(tmp_path)
    path = tmp_path / "LSMDC16_annos_val.csv"
    rows = "".join(formats.lsmdc_row(f"9999_X_{i}.0-{i}.5", "He runs.") for i in range(7_406))
    path.write_text(formats.lsmdc_row(PIANIST, "He plays.") * 2 + rows)
    (tmp_path / "LSMDC16_challenge_1000_publictect.csv").unlink()
    videos = touch(tmp_path / "videos", *(f"9999_X_{i}.0-{i}.5.avi" for i in range(7_406)))
    split = load_split("lsmdc", "standard", "val", tmp_path, videos)
    assert (split.excused_videos, split.excused_captions) == (1, 2)
    assert split.is_complete()


def test_known_broken_do_not_excuse_a_short_list(tmp_path):
    formats.write_didemo(tmp_path)
    videos = touch(tmp_path / "videos", "3@N03_3_cc.mp4", "4@N04_4_dd.")
    with pytest.raises(UserError, match=r"known broken.*38b\.3gp.*2 videos and 1 excused, .*1,004"):
        load_split("didemo", "standard", "test", tmp_path, videos)
    split = load_split("didemo", "standard", "test", tmp_path, videos, allow_partial_gallery=True)
    assert [clip.path.name for clip in split.clips] == ["3@N03_3_cc.mp4", "4@N04_4_dd."]
    assert {(clip.start, clip.end) for clip in split.clips} == {(0.0, 31.0)}
    assert split.left_out == {f"known broken videos without a file ({UNREADABLE})": 1}
    for path in videos.iterdir():
        path.unlink()
    with pytest.raises(UserError, match="2 of the 3 test videos have no file"):
        load_split("didemo", "standard", "test", tmp_path, videos, allow_partial_gallery=True)
