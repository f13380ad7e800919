"""The examples of a report: which there are, and what is behind their ids."""

import shutil
from base64 import b64decode
from io import BytesIO

from output_folders import made_again, settings
from PIL import Image

from tvr.dataloaders.datasets import FrameSettings
from tvr.dataloaders.records import Clip
from tvr.rankings import Ranking, read_rankings
from tvr.report.examples import Data, Previews, text_to_video, video_to_text


def test_it_says_how_the_examples_were_chosen(trained, training_page):
    rankings = read_rankings(trained[0] / "rankings_last.csv")
    right = sum(r.rank == 1 for r in rankings if r.direction == "t2v")
    assert f"{right} of 13 captions have their video at rank 1." in training_page.text
    assert "The 3 worst ranks, then" in training_page.text


def test_every_caption_and_every_score_of_an_example_is_there(shapes, trained, training_page):
    rankings = read_rankings(trained[0] / "rankings_last.csv")
    worst = max((r for r in rankings if r.direction == "t2v"), key=lambda r: r.rank)
    lines = (shapes / "anns/MSRVTT_JSFUSION_test.csv").read_text().splitlines()
    texts = {line.split(",")[2]: line.split(",")[3] for line in lines}
    place = " ".join(f"{k} {score:.4f} {name}" for k, (name, score) in enumerate(worst.best, 1))
    own = f"{worst.rank} {worst.score:.4f} {worst.target} ✓ right"
    shown = f"{texts[worst.target]} Rank {worst.rank} {worst.query} {place} {own}"
    assert shown in training_page.text


def ranking(rank, target):
    return Ranking("t2v", "q", target, rank, 0.1, [("a", 0.4), ("b", 0.3)])


def test_the_target_is_shown_once():
    data = Data({"q": "a text"}, {})
    made = Previews({}, FrameSettings(1.0, 1, 1, "opencv"))
    of_text = text_to_video(ranking(2, "b"), data, made)
    assert of_text.text == "a text"
    assert [(c.place, c.name, c.is_right) for c in of_text.candidates] == [
        *((1, "a", False), (2, "b", True)),
    ]
    of_video = video_to_text(ranking(9, "c"), data, made)
    assert [(c.place, c.text, c.is_right) for c in of_video.candidates] == [
        *((1, "a", False), (2, "b", False), (9, "c", True)),
    ]


def test_a_clip_is_decoded_once(shapes):
    clip = Clip("video24", shapes / "videos_3fps" / "video24.mp4")
    made = Previews({"video24": clip}, FrameSettings(3.0, 4, 128, "opencv"))
    first = made.of("video24")
    assert first.moving
    assert made.of("video24") is first


def test_pictures_are_small_moving_and_decoded_once(training_page):
    moving, still = (training_page.all("img", **{"class": name}) for name in ("moving", "still"))
    assert len(moving) == len(still) > 30
    names = {picture["alt"] for picture in moving}
    assert len({(picture["alt"], picture["src"]) for picture in moving}) == len(names)
    assert len({picture["src"] for picture in moving}) == len(names), "each shows its own clip"
    sources = [BytesIO(b64decode(picture["src"].partition(",")[2])) for picture in moving]
    images = [Image.open(source) for source in sources]
    assert {max(image.size) for image in images} == {128}
    # frames that are alike are one
    assert max(image.n_frames for image in images) == 6


def test_without_examples_there_are_none(of_training):
    settings(of_training, report_examples=0)
    page = made_again(of_training)
    assert not page.all("img", **{"class": "moving"})
    assert page.all("table", **{"class": "histogram"})
    assert "Examples" not in page.text


def test_as_many_examples_as_asked_for(of_training):
    settings(of_training, report_examples=1)
    articles = made_again(of_training).all("article")
    rankings = read_rankings(of_training / "rankings_last.csv")
    has_success = any(r.rank == 1 and r.direction == "t2v" for r in rankings)
    assert len(articles) == 2 + has_success


def test_videos_that_are_gone_have_no_preview(of_training, tmp_path):
    (tmp_path / "empty").mkdir()
    settings(of_training, video_path=str(tmp_path / "empty"))
    page = made_again(of_training)
    assert not page.all("img", **{"class": "moving"})
    assert "no preview" in page.text
    assert "cannot be read any more" not in page.text
    settings(of_training, video_path=str(tmp_path / "nowhere"))
    assert "The videos cannot be read any more: --video_path" in made_again(of_training).text


def test_captions_that_are_gone_are_their_ids(of_training, tmp_path):
    settings(of_training, anno_path=str(tmp_path / "nowhere"))
    text = made_again(of_training).text
    assert "The captions cannot be read any more: " in text
    worst = max(read_rankings(of_training / "rankings_last.csv"), key=lambda r: r.rank)
    assert f"{worst.query} Rank {worst.rank}" in text


def test_a_video_that_cannot_be_decoded_has_no_preview(of_training, shapes, tmp_path):
    videos = shutil.copytree(shapes / "videos_3fps", tmp_path / "videos")
    worst = max(read_rankings(of_training / "rankings_last.csv"), key=lambda r: r.rank)
    name = worst.target.partition("#")[0]
    settings(of_training, video_path=str(videos))
    before = made_again(of_training)
    (videos / f"{name}.mp4").write_bytes(b"no video")
    page = made_again(of_training)
    assert ("no preview" in before.text, "no preview" in page.text) == (False, True)
    named, named_before = (
        {picture["alt"] for picture in each.all("img", **{"class": "moving"})}
        for each in (page, before)
    )
    assert named_before - named == {f"Preview of {name}"}
