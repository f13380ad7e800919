"""--on_bad_video: other captions in place of those of unreadable videos, the same for all."""

from dataclasses import replace

import pytest
import torch
from clips import make_clip
from test_datasets import SETTINGS, clip_of, same, tokenize

from tvr.dataloaders.augment import RAND_AUGMENT
from tvr.dataloaders.datasets import ClipDataset, PairDataset, clip_loader, pair_loader
from tvr.dataloaders.decoding import DecoderProcess
from tvr.dataloaders.incidents import Incident, Incidents
from tvr.dataloaders.records import Caption, Clip, Split
from tvr.dataloaders.sampler import RankSampler
from tvr.dataloaders.workers import checked
from tvr.utils.errors import UserError

SEED, BATCH, VIDEOS, CAPTIONS = 5, 8, 10, 4
BROKEN = (2, 7)


def split_of(clips):
    captions = [
        Caption(f"{clip.video_id}#{k}", clip.video_id, f"{clip.video_id}-{k}")
        for clip in clips
        for k in range(CAPTIONS)
    ]
    return Split("toy train", clips, captions)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Ten videos of one to ten sampled frames, with four captions each."""
    folder = tmp_path_factory.mktemp("videos")
    paths = [make_clip(folder / f"{n}.mp4", 3 * n + 1, size=(48, 64)) for n in range(VIDEOS)]
    return split_of([Clip(f"v{path.stem}", path) for path in paths])


@pytest.fixture
def split(whole, tmp_path):
    """The same, but two of them cannot be read."""
    clips = list(whole.clips)
    for number in BROKEN:
        path = tmp_path / f"broken{number}.mp4"
        path.write_bytes(clips[number].path.read_bytes()[:-9])
        clips[number] = Clip(clips[number].video_id, path)
    return split_of(clips)


def batches(
    split, rank=0, world_size=1, workers=0, epoch=0, done=0, settings=SETTINGS, augment=RAND_AUGMENT
):
    """One epoch of one rank."""
    dataset = PairDataset(split, settings, tokenize, augment, SEED, skip_unreadable=True)
    share = BATCH // world_size
    epochs = range(epoch, epoch + 1)
    sampler = RankSampler(
        dataset.video_of_caption, share, rank, world_size, SEED, epochs, done=done
    )
    return list(checked(pair_loader(dataset, sampler, workers, False)))


def all_rows(batch):
    """Every caption of a batch with its clip's frames."""
    return [(caption, clip_of(batch, i)) for i, caption in enumerate(batch.caption_B.tolist())]


def test_nothing_changes_where_every_video_can_be_read(whole):
    asked = PairDataset(whole, SETTINGS, tokenize, RAND_AUGMENT, SEED)
    sampler = RankSampler(asked.video_of_caption, BATCH, 0, 1, SEED, range(1))
    for ours, theirs in zip(
        batches(whole), checked(pair_loader(asked, sampler, 0, False)), strict=True
    ):
        assert same(ours, theirs)
        assert ours.incidents == []


def test_readable_captions_stay_and_the_others_are_replaced(whole, split):
    replaced = 0
    for ours, before in zip(batches(split), batches(whole), strict=True):
        assert len(ours.caption_B) == BATCH
        for row, (new, old) in enumerate(zip(ours.caption_B, before.caption_B, strict=True)):
            if int(old) // CAPTIONS in BROKEN:
                replaced += 1
                assert int(new) // CAPTIONS not in BROKEN
            else:
                assert new == old
                assert torch.equal(clip_of(ours, row), clip_of(before, row))
        texts = [split.captions[caption].text for caption in ours.caption_B]
        assert torch.equal(ours.tokens_BL, tokenize(texts)[:, : ours.tokens_BL.shape[1]])
        assert torch.equal(ours.video_B, ours.caption_B // CAPTIONS)
    assert replaced == len(BROKEN) * CAPTIONS


def test_every_clip_is_of_its_video(split):
    for batch in batches(split, augment=None):
        for row, video in enumerate(batch.video_B.tolist()):
            assert torch.equal(clip_of(batch, row), SETTINGS.read(split.clips[video]))


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_together_are_one_process(split, workers):
    alone = batches(split)
    ranks = [batches(split, rank, 2, workers) for rank in range(2)]
    for batch, *shares in zip(alone, *ranks, strict=True):
        together = [row for share in shares for row in all_rows(share)]
        for (caption, frames_FCHW), (other, others_FCHW) in zip(
            all_rows(batch), together, strict=True
        ):
            assert caption == other
            assert torch.equal(frames_FCHW, others_FCHW)


def test_an_epoch_that_goes_on_is_the_same(split):
    whole_epoch, rest = batches(split), batches(split, done=2)
    assert len(rest) == len(whole_epoch) - 2
    assert all(same(one, other) for one, other in zip(whole_epoch[2:], rest, strict=True))


def test_epochs_draw_for_themselves(split):
    def drawn(epoch):
        """The captions that took the place of others."""
        kept = {int(c) for batch in batches(split, epoch=epoch) for c in batch.caption_B}
        readable = {i for i in range(len(split.captions)) if i // CAPTIONS not in BROKEN}
        captions = [int(c) for batch in batches(split, epoch=epoch) for c in batch.caption_B]
        assert kept <= readable
        return sorted(c for c in readable if captions.count(c) > 1)

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)


@pytest.mark.parametrize("workers", [0, 2])
def test_each_file_is_listed_once_with_its_reason(split, workers):
    incidents = Incidents()
    for batch in batches(split, workers=workers):
        incidents.add(batch.incidents)
    head, *reasons = incidents.lines()
    count = len(incidents.all())
    assert count >= len(BROKEN) * CAPTIONS
    assert head.startswith(f"--on_bad_video skip: {count} captions were replaced, ")
    assert [reason.partition(" is cut off")[0] for reason in reasons] == [
        f"{split.clips[number].path}: the video file" for number in BROKEN
    ]


def test_a_file_is_tried_once_by_a_process(split):
    """A decoder that hangs over it is waited for once."""
    dataset = PairDataset(split, SETTINGS, tokenize, None, SEED, skip_unreadable=True)
    sampler = RankSampler(dataset.video_of_caption, BATCH, 0, 1, SEED, range(1))
    for keys in sampler:
        dataset.__getitems__(keys)
    for number in BROKEN:
        split.clips[number].path.unlink()
    again = [incident for keys in sampler for incident in dataset.__getitems__(keys).incidents]
    assert again
    assert all("is cut off" in incident.problem for incident in again)


class Impatient(DecoderProcess):
    """Has no time at all for some files."""

    def __init__(self, paths):
        super().__init__(60.0)
        self.paths = paths

    def read(self, request, decoder):
        self.timeout = 1e-6 if request.path in self.paths else 60.0
        return super().read(request, decoder)


def test_decoders_that_hang_are_listed_with_the_reason_and_counted(whole):
    slow = [whole.clips[number].path for number in BROKEN]
    process = Impatient(slow)
    settings = replace(SETTINGS, process=process)
    dataset = PairDataset(whole, settings, tokenize, None, SEED, skip_unreadable=True)
    incidents = Incidents()
    for keys in RankSampler(dataset.video_of_caption, BATCH, 0, 1, SEED, range(1)):
        incidents.add(dataset.__getitems__(keys).incidents)
    process.close()
    head, *reasons, last = incidents.lines()
    assert "captions were replaced" in head
    why = "takes more than 1e-06 seconds to decode with"
    for path, reason in zip(slow, reasons, strict=True):
        assert f"{path}: the video file {why} decord, and {why} opencv." in reason
    # each file with either decoder once, however often its captions were drawn
    assert last == (
        "decoders that hung, crashed or ran out of memory, and were replaced: 4, over 2 videos"
    )


def test_if_no_video_can_be_read_it_is_an_error(split, tmp_path):
    missing = split_of([Clip(clip.video_id, tmp_path / "none.mp4") for clip in split.clips])
    with pytest.raises(
        UserError, match=r"nor those of 10 others .*none\.mp4: the video file is not"
    ):
        batches(missing)


def test_without_skip_the_error_names_the_file_and_says_that_skip_exists(split):
    dataset = PairDataset(split, SETTINGS, tokenize, None, SEED)
    sampler = RankSampler(dataset.video_of_caption, BATCH, 0, 1, SEED, range(1))
    with pytest.raises(UserError, match=r"broken\d\.mp4: .* is cut off.*--on_bad_video skip"):
        list(checked(pair_loader(dataset, sampler, 0, False)))


def test_evaluation_needs_every_video(split):
    with pytest.raises(UserError, match=r"broken2\.mp4: .* is cut off") as error:
        list(checked(clip_loader(ClipDataset(split, SETTINGS), [[1, 2]], 0, False)))
    assert "skip" not in str(error.value)


def test_what_the_second_decoder_reads_is_counted_once(tmp_path):
    incidents = Incidents()
    path = tmp_path / "a.mpg"
    for _ in range(3):
        incidents.add(
            [Incident(path, "why", "opencv"), Incident(tmp_path / "b.mpg", "so", "opencv")]
        )
    assert incidents.lines() == [
        "read with opencv, as the other decoder could not: 2 videos:",
        "why",
        "so",
    ]
    incidents.add([Incident(tmp_path / f"{n}.mpg", str(n), "opencv", n % 2) for n in range(12)])
    head, *reasons, last = incidents.lines()
    assert head.endswith(": 14 videos; the first 10:")
    assert len(reasons) == 10
    assert last.endswith("replaced: 6, over 6 videos")
