"""The evaluation protocol on a gallery with several captions a video, against the plain way."""

import json
import logging
import resource

import numpy as np
import pytest
import torch
from clips import make_clip
from safetensors import safe_open

from tvr.build import Run
from tvr.config import Config
from tvr.dataloaders.batches import packed
from tvr.dataloaders.records import Caption, Clip, Split
from tvr.encode import encode_clips, encode_texts, evaluating
from tvr.evaluate import TEXTS_PER_BLOCK, evaluate, literal, model_score, similarities
from tvr.export import export_features
from tvr.models.clip import build_backbone
from tvr.models.gare import GARE, ModelSettings, TextFeatures, VideoFeatures
from tvr.models.increment import Increment
from tvr.models.scoring import FastScore
from tvr.utils.distributed import Ranks
from tvr.utils.errors import UserError

VIDEOS, CAPTIONS = 7, TEXTS_PER_BLOCK + 9


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """7 videos of 1 to 7 s and 41 captions in mixed order, each video with a different number."""
    folder = tmp_path_factory.mktemp("gallery")
    clips = [
        Clip(f"v{i}", make_clip(folder / f"v{i}.mp4", 3 * (i + 1), size=(64, 96)))
        for i in range(VIDEOS)
    ]
    owners = np.random.RandomState(0).permutation([i * i % VIDEOS for i in range(CAPTIONS)])
    owners[:VIDEOS] = np.arange(VIDEOS)  # every video has at least one
    captions = [Caption(f"c{k}", f"v{o}", f"clip {o} told {k}") for k, o in enumerate(owners)]
    return Split("made up", clips, captions)


@pytest.fixture
def run(tmp_path):
    config = Config(
        output_dir=str(tmp_path), max_frames=4, max_words=10, batch_size_val=3, workers=0
    )
    return Run(config, Ranks(0, 0, 1), torch.device("cpu"), logging.getLogger("test"))


def scored(run, gare, split, *scores):
    """The similarity matrix of every score, by the steps of an evaluation."""
    with evaluating(gare):
        text = encode_texts(run, gare, [caption.text for caption in split.captions])
        clips = encode_clips(run, gare, split)
        return [similarities(score, text, clips) for score in scores]


def model(**settings):
    torch.manual_seed(0)
    return GARE(build_backbone("tiny"), ModelSettings(base_encoder="tiny", **settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"num_hidden_layers": 2},
        {"correct": "video", "context": "words", "agg_module": "None"},
        {"increment": "none", "agg_module": "None"},
    ],
    ids=["text+frames", "video+words", "baseline"],
)
def test_blocks_give_what_scoring_everything_at_once_gives(run, split, settings):
    gare = model(**settings).eval()
    with torch.inference_mode():
        scores = (literal(gare.score), literal(gare.score_by_mean), model_score(run, gare))
        blocks_AB, means_AB, fast_AB = scored(run, gare, split, *scores)
        frames = run.frames(gare)
        pixels, mask = packed([frames.read(clip) for clip in split.clips], frames.max_frames)
        tokens = gare.backbone.tokenize([c.text for c in split.captions], run.config.max_words)
        video = gare.encode_video(pixels, mask)
        text = gare.encode_text(tokens)
        whole_AB = gare.score(text, video).sim_AB
        for j, (frames_FD, real_F) in enumerate(zip(video.frames_BFD, video.mask_BF, strict=True)):
            mean_D = frames_FD[real_F].mean(0)
            expected_A = torch.cosine_similarity(text.text_AD, mean_D[None], dim=-1)
            np.testing.assert_allclose(means_AB[:, j], expected_A, atol=2e-6)
    assert blocks_AB.shape == (CAPTIONS, VIDEOS)
    np.testing.assert_allclose(blocks_AB, whole_AB, atol=2e-6)
    np.testing.assert_allclose(fast_AB, whole_AB, atol=2e-6)


def test_metrics_count_every_caption_and_every_video(run, split):
    gare = model(num_hidden_layers=2).train()
    metrics = evaluate(run, gare, split).metrics
    assert gare.training
    [sim_AB] = scored(run, gare, split, literal(gare.score))
    owners = split.video_of_caption()
    t2v = [sum(row >= row[owner]) for row, owner in zip(sim_AB, owners, strict=True)]
    v2t = []
    for video in range(VIDEOS):
        best = [max(sim_AB[i, video] for i in range(CAPTIONS) if owners[i] == w) for w in range(7)]
        v2t.append(sum(b >= best[video] for b in best))
    assert metrics["t2v"]["MnR"] == pytest.approx(np.mean(t2v))
    assert metrics["t2v"]["R@1"] == pytest.approx(100 * np.mean(np.array(t2v) == 1))
    assert metrics["v2t"]["MnR"] == pytest.approx(np.mean(v2t))
    assert metrics["v2t"]["R@5"] == pytest.approx(100 * np.mean(np.array(v2t) <= 5))


def test_a_model_that_scores_nan_is_an_error(run, split):
    gare = model(num_hidden_layers=2)
    with torch.no_grad():
        gare.psi.mean.bias.fill_(float("nan"))
    with pytest.raises(UserError, match=r"made up.*NaN"):
        evaluate(run, gare, split)


def test_the_form_of_the_score_is_the_users_choice(run, split, caplog):
    gare = model(num_hidden_layers=2)
    assert isinstance(model_score(run, gare), FastScore)
    run.config.scoring = "literal"
    assert not isinstance(model_score(run, gare), FastScore)
    assert not caplog.records


def test_an_unknown_psi_is_scored_literally_and_says_so(run, split, caplog):
    """Somebody's own ψ has no folded form: it must not be scored as if it were the paper's."""

    class Doubled(Increment):
        def forward(self, *inputs):
            return 2 * super().forward(*inputs)

    gare = model(num_hidden_layers=2)
    plain = scored(run, gare, split, model_score(run, gare))
    gare.psi.__class__ = Doubled
    caplog.set_level(logging.INFO)
    doubled = scored(run, gare, split, model_score(run, gare))
    assert "--scoring literal, since ψ is a Doubled" in caplog.text
    assert not np.allclose(plain, doubled, atol=1e-3)


def test_exported_features_score_as_the_evaluation_does(run, split, tmp_path):
    """A stranger with the file alone gets the evaluation's numbers."""
    gare = model(num_hidden_layers=2)
    path = tmp_path / "features.safetensors"
    run.config.export_features = str(path)
    with evaluating(gare):
        text = encode_texts(run, gare, [c.text for c in split.captions], words=True)
        clips = encode_clips(run, gare, split)
        sim_AB = similarities(literal(gare.score), text, clips)
        export_features(run, split, text, clips)
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            facts = {name: json.loads(fact) for name, fact in file.metadata().items()}
        text = TextFeatures(tensors["text_AD"], tensors["words_ALD"], tensors["word_mask_AL"])
        video = VideoFeatures(tensors["frames_BFD"], tensors["frame_mask_BF"])
        np.testing.assert_allclose(gare.score(text, video).sim_AB, sim_AB, atol=2e-6)
        words_LD = gare.encode_text(gare.backbone.tokenize([facts["captions"][5]], 10), True)
    torch.testing.assert_close(text.words_ALD[5], words_LD.words_ALD[0], atol=1e-5, rtol=1e-4)
    assert facts["video_ids"] == [clip.video_id for clip in split.clips]
    assert facts["caption_ids"] == [caption.caption_id for caption in split.captions]
    assert tensors["video_of_caption_A"].tolist() == split.video_of_caption()
    assert facts["settings"]["max_frames"] == 4


def test_an_export_that_does_not_fit_on_the_disk_leaves_the_earlier_file(run, split, tmp_path):
    gare = model(num_hidden_layers=2)
    path = tmp_path / "features.safetensors"
    path.write_text("the one before")
    run.config.export_features = str(path)
    with evaluating(gare):
        text = encode_texts(run, gare, [c.text for c in split.captions], words=True)
        clips = encode_clips(run, gare, split)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(
            UserError, match=r"features\.safetensors: cannot be written .*too large"
        ):
            export_features(run, split, text, clips)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "the one before"
    assert list(tmp_path.iterdir()) == [path]
