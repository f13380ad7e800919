"""The two stages against the literal score of every pair, and what is refused."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from programs import run_program
from small_index import FRAMES, clip, opened, update, write_checkpoint

from tvr.dataloaders.batches import packed
from tvr.dataloaders.records import Clip
from tvr.encode import encode_texts, evaluating
from tvr.models.gare import VideoFeatures
from tvr.search.engine import MOST_CHARACTERS, Engine
from tvr.search.indexing import index_features
from tvr.search.store import Store
from tvr.utils.errors import UserError

QUERIES = ["a red circle moves left", "noise", "two squares, one above the other", "Ünï 🎬"]
MODELS = {
    "default": {},
    "other side": {"correct": "video", "context": "words", "eta": -1},
    "release": {"padding": "release", "query": "text", "agg_module": "seqLSTM"},
    "baseline": {"increment": "none", "agg_module": "None"},
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Nine clips of one to nine seconds."""
    folder = tmp_path_factory.mktemp("videos")
    for seconds in range(1, 10):
        clip(folder / f"{seconds}.mp4", seconds)
    return folder


@pytest.fixture(scope="module", params=MODELS)
def case(request, videos, tmp_path_factory):
    """A checkpoint, the index it made, and its engine."""
    folder = tmp_path_factory.mktemp("case")
    checkpoint = write_checkpoint(folder / "model.pt", **MODELS[request.param])
    update(videos, folder / "index", opened(checkpoint))
    return checkpoint, folder / "index", Engine.open(folder / "index", device="cpu")


@pytest.fixture(scope="module")
def default(videos, tmp_path_factory):
    """The folder of a checkpoint and its index."""
    folder = tmp_path_factory.mktemp("default")
    update(videos, folder / "index", opened(write_checkpoint(folder / "model.pt")))
    return folder


def literal(checkpoint, videos, queries):
    """The score of every query with every video as the evaluation defines it, by path."""
    model = opened(checkpoint)
    frames = model.run.frames(model.gare)
    scores = {}
    with evaluating(model.gare):
        text = encode_texts(model.run, model.gare, queries)
        for path in sorted(videos.iterdir()):
            clip = frames.read(Clip(path.name, path))
            video = model.gare.encode_video(*packed([clip], frames.max_frames))
            scores[path.name] = model.gare.score(text, video).sim_AB[:, 0]
    return scores


def assert_is_literal(answers, scores, count):
    for i, answer in enumerate(answers):
        assert len(answer.hits) == count
        assert [hit.rank for hit in answer.hits] == list(range(1, count + 1))
        for hit in answer.hits:
            assert hit.score == pytest.approx(float(scores[hit.path][i]), abs=1e-5)
        found = [hit.score for hit in answer.hits]
        assert found == sorted(found, reverse=True)


def test_exact_search_is_the_literal_score(case, videos):
    checkpoint, _, engine = case
    scores = literal(checkpoint, videos, QUERIES)
    # fewer queries than frames, and more of them, take different ways
    assert len(QUERIES) > FRAMES
    for queries in (QUERIES[:1], QUERIES):
        answers = engine.search(queries, topk=20, exact=True)
        assert_is_literal(answers, scores, 9)
        assert [answer.query for answer in answers] == queries
        assert {(answer.candidates, answer.gallery) for answer in answers} == {(9, 9)}


def test_as_many_candidates_as_videos_are_exact(case):
    _, _, engine = case
    for queries in (QUERIES[:1], QUERIES):
        exact = engine.search(queries, exact=True)
        for candidates in (9, 1000):
            staged = engine.search(queries, candidates=candidates)
            for one, other in zip(exact, staged, strict=True):
                assert [hit.path for hit in one.hits] == [hit.path for hit in other.hits]
                assert [hit.first_rank for hit in one.hits] == [h.first_rank for h in other.hits]


def test_engines_share_a_model(case):
    checkpoint, index, engine = case
    model = opened(checkpoint)
    for _ in range(2):
        shared = Engine(Store.open(index), model)
        for one, other in zip(shared.search(QUERIES), engine.search(QUERIES), strict=True):
            assert [hit.path for hit in one.hits] == [hit.path for hit in other.hits]


def test_many_candidates_take_little_memory(tmp_path):
    """All their features together take more than the process may use."""
    checkpoint = write_checkpoint(tmp_path / "model.pt")
    block = VideoFeatures(torch.randn(256, 64, 128), torch.ones(256, 64, dtype=torch.bool))
    index_features(tmp_path / "index", opened(checkpoint), tmp_path, [block] * 16)
    script = (
        "import resource, sys; from pathlib import Path; from tvr.search.engine import Engine\n"
        "engine = Engine.open(Path(sys.argv[1]), device='cpu')\n"
        "engine.search(['noise'])\n"
        "status = Path('/proc/self/status').read_text()\n"
        "used = 1024 * int(status.split('VmData:')[1].split()[0])\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (used + 2**27,) * 2)\n"
        "print(engine.search(['noise'], candidates=4096)[0].candidates)\n"
    )
    done = run_program(sys.executable, "-c", script, tmp_path / "index")
    assert (done.returncode, done.stdout) == (0, "4096\n"), done.stderr


def test_stage_one_chooses_by_the_mean_frame(case, videos):
    checkpoint, index, engine = case
    model = opened(checkpoint)
    scores = literal(checkpoint, videos, QUERIES)
    everything = engine.search(QUERIES, topk=9, exact=True)
    few = engine.search(QUERIES, topk=2, candidates=4)
    assert_is_literal(few, scores, 2)
    for full, answer in zip(everything, few, strict=True):
        by_mean = sorted(full.hits, key=lambda hit: hit.first_rank)
        assert [hit.first_rank for hit in by_mean] == list(range(1, 10))
        first = [hit.first_score for hit in by_mean]
        assert first == sorted(first, reverse=True)
        expected = sorted(by_mean[:4], key=lambda hit: hit.rank)[:2]
        assert [hit.path for hit in answer.hits] == [hit.path for hit in expected]
        assert (answer.candidates, answer.gallery) == (4, 9)
    with evaluating(model.gare):
        text = encode_texts(model.run, model.gare, QUERIES[:1])
        features = Store.open(index).features([hit.row for hit in everything[0].hits])
        means = model.gare.score_by_mean(text, features).sim_AB[0]
    found = torch.tensor([hit.first_score for hit in everything[0].hits])
    torch.testing.assert_close(found, means, atol=1e-5, rtol=0)


def test_at_least_topk_candidates(default):
    engine = Engine.open(default / "index", device="cpu")
    (answer,) = engine.search(QUERIES[:1], topk=6, candidates=1)
    assert (len(answer.hits), answer.candidates) == (6, 6)


def test_hits_say_which_file(default, videos):
    engine = Engine.open(default / "index", device="cpu")
    assert engine.folder == videos
    assert engine.gallery == 9
    for hit in engine.search(QUERIES[:1])[0].hits:
        assert hit.size == (videos / hit.path).stat().st_size
        assert hit.seconds == pytest.approx(int(hit.path[0]), abs=0.4)
        assert engine.preview(hit.row)[8:12] == b"WEBP"
    assert {"model", "videos", "made", "version"} <= set(engine.describe())


def test_threads_share_an_engine(default):
    engine = Engine.open(default / "index", device="cpu")
    alone = [[hit.path for hit in engine.search([query])[0].hits] for query in QUERIES]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda query: engine.search([query])[0], QUERIES * 5))
    assert [[hit.path for hit in answer.hits] for answer in answers] == alone * 5


def test_queries_that_cannot_be_answered(default):
    engine = Engine.open(default / "index", device="cpu")
    assert engine.search(["w" * MOST_CHARACTERS])[0].hits
    for queries, message in (
        ([], "no query"),
        (["fine", " \n"], "query is empty"),
        (["w" * 2001], "2,001 characters; give at most 2,000"),
        (["caf\udce9"], "not UTF-8"),
    ):
        with pytest.raises(UserError, match=message):
            engine.search(queries)
    for counts in ({"topk": 0}, {"candidates": 0}):
        with pytest.raises(UserError, match="at least 1"):
            engine.search(QUERIES, **counts)


def test_the_model_has_to_be_the_one_of_the_index(default, tmp_path):
    index, model = default / "index", default / "model.pt"
    other = write_checkpoint(tmp_path / "other.pt", seed=1)
    with pytest.raises(UserError, match=r"other\.pt .fingerprint.* not the model.*model\.pt"):
        Engine.open(index, str(other), "cpu")
    # the same weights, to be scored in another way
    warmer = torch.load(model, weights_only=True)
    warmer["settings"]["temp"] = 4.0
    torch.save(warmer, tmp_path / "warmer.pt")
    with pytest.raises(UserError, match="is not the model"):
        Engine.open(index, str(tmp_path / "warmer.pt"), "cpu")
    with pytest.raises(UserError, match="no such checkpoint"):
        Engine.open(index, str(tmp_path / "gone.pt"), "cpu")


def test_a_model_that_was_moved_is_named(videos, tmp_path):
    checkpoint = write_checkpoint(tmp_path / "model.pt")
    update(videos, tmp_path / "index", opened(checkpoint))
    checkpoint.rename(tmp_path / "moved.pt")
    with pytest.raises(UserError, match=r"model\.pt: no such checkpoint(.|\n)*--model"):
        Engine.open(tmp_path / "index", device="cpu")
    assert Engine.open(tmp_path / "index", str(tmp_path / "moved.pt"), "cpu").gallery == 9


def test_settings_that_were_given_are_those_of_the_index(videos, tmp_path):
    """The authors' checkpoints carry no settings, so that they are given for the index."""
    content = torch.load(write_checkpoint(tmp_path / "model.pt"), weights_only=True)
    torch.save(content["model"], tmp_path / "bare.pt")
    given = {"base_encoder": "tiny", "num_hidden_layers": 1, "max_frames": FRAMES}
    given |= {"temp": 3.0, "max_words": 16}
    update(videos, tmp_path / "index", opened(tmp_path / "bare.pt", **given))
    engine = Engine.open(tmp_path / "index", device="cpu")
    scores = literal(tmp_path / "model.pt", videos, QUERIES)
    assert_is_literal(engine.search(QUERIES, exact=True), scores, 9)


def test_clip_alone_by_its_name(videos, tmp_path):
    """It is the mean frame and pooling alone; `tiny` has the same random weights every time."""
    update(videos, tmp_path / "index", opened("tiny"))
    engine = Engine.open(tmp_path / "index", device="cpu")
    assert engine.describe()["model"] == "tiny"
    assert len(engine.search(QUERIES)[0].hits) == 9
