"""MSVD: some 41 captions a video, in a pickle that is read without trusting it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from tvr.dataloaders.annotations import existing_files, listed_ids, read_content, refuse_overlaps
from tvr.dataloaders.captions import EMPTY, clean, matched, sentence_captions
from tvr.dataloaders.records import AnnotatedSplit
from tvr.utils.errors import UserError
from tvr.utils.pickles import ANY_PROTOCOL, Opcodes, PlainUnpickler, refuse_expansion

PROTOCOLS = ("standard",)
VALIDATED_PROTOCOLS = PROTOCOLS

LISTS = {"train": "train_list.txt", "val": "val_list.txt", "test": "test_list.txt"}
VIDEOS = {"train": 1_200, "val": 100, "test": 670}
CAPTIONS = {"train": 48_774, "val": 4_290, "test": 27_763}
CAPTIONS_FILE = "raw-captions.pkl"
LETTERS_PER_BYTE = 100  # a word that was written once is named by two bytes, a caption too


def needed_files(protocol: str, split: str) -> list[tuple[str, ...]]:
    """The list and the captions of one split."""
    return [(LISTS[split],), (CAPTIONS_FILE,)]


def read_captions(anno_path: Path, protocol: str, split: str) -> AnnotatedSplit:
    """Read the ids and captions of one split from the folder `anno_path`.

    A caption is a list of tokens, joined by spaces (or already a string). Empty captions are left
    out. Raises UserError for a missing or malformed file, an id listed twice or also
    in the list of a later split, a listed video without captions, and a pickle that holds
    anything but dictionaries, lists and strings.
    """
    assert protocol in PROTOCOLS, protocol
    list_file, path = existing_files(anno_path, needed_files(protocol, split))
    listed = listed_ids(list_file)
    refuse_overlaps(listed, split, anno_path, LISTS, listed_ids)
    content = load_plain_pickle(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: a dictionary from ids to captions is needed. Get it again.")
    found, _ = matched(listed, content, path)
    texts = {video_id: _texts(said, f"{path}, {video_id}") for video_id, said in found.items()}
    captions, left_out = sentence_captions(listed, texts, str(path))
    documented = VIDEOS[split], CAPTIONS[split]
    rows = {list_file.name: len(listed), path.name: len(content)}
    return AnnotatedSplit(
        listed,
        captions,
        *documented,
        # the documented numbers are of the pickle's entries, whatever is in them
        excused_captions=len(left_out[EMPTY]),
        left_out=left_out,
        rows=rows,
    )


def _texts(said: object, where: str) -> list[str]:
    if not isinstance(said, list | tuple):
        kind = type(said).__name__
        raise UserError(f"{where}: a list of captions is needed, not {kind}. Get it again.")
    words = [entry.split() for entry in said if isinstance(entry, str)]
    if len(words) == len(said) and max(map(len, words), default=0) == 1:
        raise UserError(
            f"{where}: {list(said)!r:.80} is one word an entry, so it seems to be one caption's "
            "tokens. A list of captions is needed, each a list of tokens or a sentence."
        )
    texts = []
    for number, tokens in enumerate(said, start=1):
        place = f"{where}, caption {number}"
        if isinstance(tokens, list | tuple):
            texts.append(" ".join(filter(None, (clean(token, place) for token in tokens))))
        else:
            texts.append(clean(tokens, place))
    return texts


class _CaptionsUnpickler(PlainUnpickler):
    """Builds what needs no name looked up: dictionaries, lists, tuples, strings, numbers.

    Everything that a pickle can run, it first has to name. The names that are known here make
    plain dictionaries, which are empty, and the factory of a defaultdict, which is only named,
    stands for nothing.
    """

    dispatch = Opcodes(*ANY_PROTOCOL)
    dispatch.update(PlainUnpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return lambda: {}
        if (module, name) == ("collections", "defaultdict"):
            return lambda _factory=None: {}
        if (module, name) in (("builtins", "list"), ("__builtin__", "list")):
            return None
        return super().find_class(module, name)


def load_plain_pickle(path: Path) -> Any:
    """The content of a pickle of plain containers and strings; nothing in it is ever run.

    Raises UserError for any other pickle, for a damaged one, and for one that spells out to
    `LETTERS_PER_BYTE` times its size.
    """
    content = read_content(path)
    try:
        captions = _CaptionsUnpickler(io.BytesIO(content), encoding="utf-8").load()
        refuse_expansion(captions, LETTERS_PER_BYTE * len(content), _letters)
    except Exception as error:
        # damaged bytes can raise nearly anything
        reason = str(error) or "cut off"
        raise UserError(
            f"{path}: not a pickle of plain dictionaries, lists and strings ({reason:.300}). "
            "Nothing in it was run. Get the captions again from a source you trust."
        ) from error
    return captions


def _letters(value: Any) -> int:
    return 1 + len(value) if isinstance(value, str) else 1
