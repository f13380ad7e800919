"""The vectors of an index: every video's mean frame at length 1, as FAISS writes them.

FAISS reads what a file says of itself, whatever comes of it: another kind of index, or one that
leads beyond the memory. So it gets files only whose every byte but the numbers is known.

Shapes: N videos of the index, B videos of a shard, D embedding width.
"""

from __future__ import annotations

import struct
from pathlib import Path

import faiss
import numpy as np

from tvr.models.scoring import slices
from tvr.search.shards import AGAIN, NOT_AS_WRITTEN, Damaged, checksum
from tvr.utils.errors import UserError
from tvr.utils.files import replacing

# Kind, D, N, two numbers without a meaning, "trained", the metric, and how many numbers follow
HEADER = struct.Struct("<4siqqq?iQ")
UNUSED = 2**20
LONGEST = 1.001  # of a vector, which may have been rounded
ROWS_AT_ONCE = 2**14


def header(count: int, width: int) -> bytes:
    """How FAISS begins a file of `count` vectors that are compared by their inner products."""
    numbers = (width, count, UNUSED, UNUSED, True, faiss.METRIC_INNER_PRODUCT, count * width)
    return HEADER.pack(b"IxFI", *numbers)


def write_vectors(path: Path, means: list[np.ndarray]) -> int:
    """Write mean_BD of shard after shard; returns the file's checksum.

    Raises:
        LocalError: it cannot be written.
    """
    index = faiss.IndexFlatIP(means[0].shape[1])
    for mean_BD in means:
        index.add(mean_BD)
    with replacing(path) as file:
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))
    return checksum(np.memmap(path, np.uint8, "r"))


def read_vectors(path: Path, size: int, as_written: int, count: int, width: int) -> faiss.Index:
    """The FAISS index over `count` vectors of `width` numbers, mapped into memory.

    The file was written with `size` bytes, of which `as_written` is the checksum.

    Raises:
        Damaged: it holds something else.
        UserError: it is missing or of another size.
    """
    try:
        found = path.stat().st_size
        if found != size:
            raise UserError(f"{path}: has {found:,} bytes and should have {size:,}. {AGAIN}.")
        if found != HEADER.size + 4 * count * width:
            raise UserError(f"{path}: the vectors are not those of {count:,} videos. {AGAIN}.")
        content = np.memmap(path, np.uint8, "r")
        vectors_ND = np.memmap(path, np.float32, "r", HEADER.size, (count, width))
        # a search reads all of it each time, so to read it once more at the start is little
        if (
            content[: HEADER.size].tobytes() != header(count, width)
            or checksum(content) != as_written
            or not all(_at_length_1(vectors_ND[rows]) for rows in slices(count, ROWS_AT_ONCE))
        ):
            raise Damaged(f"{path}: damaged ({NOT_AS_WRITTEN}). {AGAIN}.")
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path}: damaged or missing. {AGAIN}.") from error


def _at_length_1(vectors_BD: np.ndarray) -> bool:
    """Whether none is longer, or has what is no number."""
    return bool((np.linalg.norm(vectors_BD, axis=1) < LONGEST).all())
