"""Reads the tensors of a model file without executing anything that the file contains.

OpenAI publishes CLIP as TorchScript archives; `torch.jit.load` would run the code in them, and
`torch.load(weights_only=True)` refuses them. Of what `torch.save` writes, the latter runs nothing,
but a file of a few hundred bytes may make it take all memory, or never end. So all three kinds of
file are read here, by an unpickler that knows tensors and plain containers only:

    a zip file     TOP/data.pkl, and a record TOP/data/KEY for each storage; of `torch.save`, or of
                   TorchScript, with TOP/code/ besides, which is not looked at
    the older one  a pickle each of a magic number, a version, facts about the machine, the content
                   and the storages' keys, and then every storage's count and numbers
"""

from __future__ import annotations

import io
import mmap
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from tvr.models.unpickling import ScriptObject, TensorUnpickler
from tvr.utils.errors import UserError
from tvr.utils.pickles import refuse_expansion

ZIP = b"PK\x03\x04"
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
MOST_LETTERS = 2**22  # of all names in a script, each with those of the modules around it
VALUES_PER_BYTE = 4  # a file may hold a tensor twice, under two names
READ_AT_ONCE = 2**20


class ZipRecords:
    """The records of a zip file of `size` bytes, in which nothing is compressed.

    Its methods raise BadZipFile where a record is not as it was written.
    """

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        tops = {name.split("/", 1)[0] for name in archive.namelist()}
        if len(tops) != 1:
            raise zipfile.BadZipFile("its records are not in one folder")
        self._archive, self._top, self._left = archive, tops.pop(), size
        self._storages: dict[str, Tensor] = {}
        if f"{self._top}/byteorder" in archive.namelist() and self.read("byteorder") != b"little":
            raise zipfile.BadZipFile("its numbers are of a machine with another order of bytes")

    def read(self, name: str) -> bytes:
        """A record's bytes."""
        return self._content(name).numpy().tobytes()

    def storage(self, key: str, dtype: torch.dtype, count: int) -> Tensor:
        """So many numbers of a record; all that are asked for share its memory."""
        if key not in self._storages:
            self._storages[key] = self._content(f"data/{key}")
        content, length = self._storages[key], count * dtype.itemsize
        if len(content) < length:
            raise zipfile.BadZipFile(f"the record data/{key} is too short")
        return content[:length].view(dtype)

    def _content(self, name: str) -> Tensor:
        record = self._archive.getinfo(f"{self._top}/{name}")
        # records may lie over one another
        self._left -= record.file_size
        if record.compress_type != zipfile.ZIP_STORED or self._left < 0:
            raise zipfile.BadZipFile(f"the record {name} is compressed, or larger than the file")
        content = torch.empty(record.file_size, dtype=torch.uint8)
        room, done = content.numpy().data, 0
        with self._archive.open(record) as file:
            # the end is where the checksum is compared
            while part := file.read(READ_AT_ONCE):
                room[done : done + len(part)] = part
                done += len(part)
        if done != len(room):
            raise zipfile.BadZipFile(f"the record {name} is cut off")
        return content


class OldStorages:
    """The storages of a file in the older form, which are filled after all were asked for."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._storages: dict[str, Tensor] = {}

    def storage(self, key: str, dtype: torch.dtype, count: int) -> Tensor:
        """So many numbers. Raises UnpicklingError where the file has not so many."""
        if key not in self._storages:
            self._left -= count * dtype.itemsize
            if self._left < 0:
                raise pickle.UnpicklingError("its numbers are more than the file holds")
            self._storages[key] = torch.empty(count, dtype=dtype)
        if self._storages[key].dtype != dtype or len(self._storages[key]) != count:
            raise pickle.UnpicklingError("it names a storage in two ways")
        return self._storages[key]

    def fill(self, file: mmap.mmap, keys: Any) -> None:
        """Read the numbers of these keys. Raises UnpicklingError where they are not all."""
        named = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
        if not named or sorted(keys) != sorted(self._storages):
            raise pickle.UnpicklingError("its storages are not the ones it names")
        for key in keys:
            storage = self._storages[key]
            (count,) = struct.unpack("<q", file.read(8))
            content = file.read(storage.nbytes)
            if count != len(storage) or len(content) != storage.nbytes:
                raise pickle.UnpicklingError("its numbers are cut off")
            storage.view(torch.uint8).numpy()[:] = memoryview(content)


def read_zip(file: BinaryIO, size: int) -> Any:
    """The content of a zip file, of `torch.save` or of TorchScript."""
    with zipfile.ZipFile(file) as archive:
        records = ZipRecords(archive, size)
        return TensorUnpickler(io.BytesIO(records.read("data.pkl")), records.storage).load()


def read_old(file: BinaryIO, size: int) -> Any:
    """The content of a file in the older form."""
    storages = OldStorages(size)
    # what is mapped is not asked for more bytes than there are
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        magic, version, facts, content, keys = (
            TensorUnpickler(mapped, storages.storage).load() for _ in range(5)
        )
        if (magic, version) != (MAGIC, VERSION) or facts.get("little_endian") is not True:
            raise pickle.UnpicklingError("it is no weights file, or of another kind of machine")
        storages.fill(mapped, keys)
    return content


def collect_tensors(script: ScriptObject) -> dict[str, Tensor]:
    """The named parameters and buffers of a script module, as its state dict names them.

    Raises:
        ValueError: its names have no end, as where modules hold each other.
    """
    tensors, waiting, left = {}, [("", script)], MOST_LETTERS
    while waiting:
        prefix, module = waiting.pop()
        for name, value in module.attributes.items():
            left -= len(prefix) + len(name)
            if left < 0:
                raise ValueError("the names of its modules have no end")
            if isinstance(value, Tensor):
                tensors[prefix + name] = value
            elif isinstance(value, ScriptObject):
                waiting.append((f"{prefix}{name}.", value))
    return tensors


def weight(value: Any) -> int:
    """How many numbers a value is. Raises ValueError for one that no weights file holds."""
    if isinstance(value, Tensor):
        return value.numel()
    if not isinstance(value, str | int | float | None):
        raise ValueError(f"it holds a {type(value).__name__}")
    return 1


def read_content(path: Path) -> Any:
    """What is in the file; damaged bytes can raise nearly anything."""
    size = path.stat().st_size
    with path.open("rb") as file:
        content = (read_zip if file.read(len(ZIP)) == ZIP else read_old)(file, size)
    if isinstance(content, ScriptObject):
        content = collect_tensors(content)
    refuse_expansion(content, VALUES_PER_BYTE * size, weight)
    return content


def read_weights(path: Path) -> dict[str, Any]:
    """The content of a `.pt` file: a TorchScript archive's tensors, or what `torch.save` wrote.

    Raises:
        UserError: the file is missing, damaged, or holds something other than weights.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        content = read_content(path)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise UserError(
            f"{path}: not a readable weights file ({type(error).__name__}: {reason:.300}). It may "
            "be damaged or incomplete, or hold Python objects, which are never loaded."
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, a dictionary was expected")
    return content
