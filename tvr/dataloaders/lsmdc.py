"""LSMDC: one sentence a row for clips of films."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tvr.dataloaders.annotations import existing_files, refuse_overlaps, text_lines
from tvr.dataloaders.captions import EMPTY, known_broken, removed_broken, sentence_captions
from tvr.dataloaders.records import AnnotatedSplit, LeftOut
from tvr.utils.errors import UserError

PROTOCOLS = ("standard",)
VALIDATED_PROTOCOLS = PROTOCOLS

FILES = {
    "train": "LSMDC16_annos_training.csv",
    "val": "LSMDC16_annos_val.csv",
    "test": "LSMDC16_challenge_1000_publictect.csv",
}
ROWS = {"train": 101_079, "val": 7_408, "test": 1_000}
COLUMNS = 6
BROKEN = frozenset(
    {
        "0017_Pianist_00.23.28.872-00.23.34.843",
        "0017_Pianist_00.30.36.767-00.30.38.009",
        "3064_SPARKLE_2012_01.41.07.000-01.41.11.793",
        "1012_Unbreakable_00.05.16.065-00.05.21.941",
    }
)


def needed_files(protocol: str, split: str) -> list[tuple[str, ...]]:
    """The one file of a split."""
    return [(FILES[split],)]


def read_captions(anno_path: Path, protocol: str, split: str) -> AnnotatedSplit:
    """Read the clips and sentences of one split from the folder `anno_path`.

    An id may repeat in training and validation and then has several captions; as documented are
    rows, the documented clips are that many less the repetitions. Training rows with an empty
    sentence are left out. Raises UserError, naming file and line, for a missing file,
    a row with other columns or without an id, an empty sentence outside training, an id that
    repeats in the test file, and a clip that is also in the file of a later split.
    """
    assert protocol in PROTOCOLS, protocol
    (path,) = existing_files(anno_path, needed_files(protocol, split))
    places: dict[str, str] = {}
    texts: dict[str, list[str]] = {}
    empty: list[LeftOut] = []
    for where, clip_id, sentence in _rows(path):
        if split == "test" and clip_id in texts:
            raise UserError(
                f"{where}: {clip_id} is there a second time (first: {places[clip_id]}). "
                "Remove one of the two rows."
            )
        if sentence:
            places.setdefault(clip_id, where)
            texts.setdefault(clip_id, []).append(sentence)
        elif split == "train":
            empty.append(LeftOut(clip_id, where))
        else:
            raise UserError(
                f"{where}: {clip_id} has no sentence. Fill it in; leaving it out would change the "
                f"{split} set."
            )
    if not texts:
        raise UserError(f"{path}: no row with a sentence. Use the published file.")
    refuse_overlaps(places, split, anno_path, FILES, _places)
    captions, _ = sentence_captions(places, texts, str(path))
    repeated = len(captions) - len(texts)
    removed, excused = removed_broken(texts, BROKEN if split == "test" else (), ROWS[split])
    return AnnotatedSplit(
        places,
        captions,
        ROWS[split] - repeated,
        ROWS[split],
        excused,
        excused,
        {EMPTY: empty, **removed},
        known_broken=known_broken(texts, BROKEN),
        rows={path.name: len(captions) + len(empty)},
    )


def _places(path: Path) -> dict[str, str]:
    return {clip_id: where for where, clip_id, _ in _rows(path)}


def _rows(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (where, clip id, sentence) of each row; UserError for a row with other columns."""
    for where, line in text_lines(path):
        fields = line.split("\t")
        clip_id = fields[0].strip(' "')
        # Times are written in several ways, but never with letters, as names and sentences are;
        # and some rows end in another tab
        worded = any(map(str.isalpha, "".join(fields[1 : COLUMNS - 1])))
        other = len(fields) < COLUMNS or any(map(str.strip, fields[COLUMNS:]))
        if not clip_id or other or worded:
            raise UserError(
                f"{where}: {COLUMNS} columns separated by tabs are needed: a clip id, four times "
                f"such as 00.23.28.872 and the sentence; seen: {line!r:.80}. Use the published "
                "file, and no header row."
            )
        yield where, clip_id, _unquoted(fields[COLUMNS - 1].strip())


def _unquoted(sentence: str) -> str:
    """`sentence` without what programs for tables did to its quotes.

    Some copies carry a lone quote at the start of the line or of the sentence (then perhaps one
    at the end), and double the sentence's own quotes where they put others around it.
    """
    if sentence.count('"') % 2:
        if sentence.startswith('"'):
            sentence = sentence[1:]
        elif sentence.endswith('"'):
            sentence = sentence[:-1]
    elif sentence.startswith('"') and sentence.endswith('"') and '""' in sentence[1:-1]:
        sentence = sentence[1:-1]
    return sentence.replace('""', '"').strip()
