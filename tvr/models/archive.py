"""Reads the tensors of a model file without executing anything that the file contains.

OpenAI publishes CLIP as TorchScript archives. `torch.jit.load` would run the code inside such an
archive, and `torch.load(weights_only=True)` refuses it; so the tensors are taken from the
archive's pickle with an unpickler that knows tensors and plain containers only.
"""

from __future__ import annotations

import io
import mmap
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tvr.utils.errors import UserError

STORAGE_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}
FOLDER = 0x10  # MS-DOS's attribute
BYTE_ARRAYS = (b"cbuiltins\nbytearray\n", b"c__builtin__\nbytearray\n")


class ScriptObject:
    """Stands for any TorchScript class: it has attributes and no behaviour."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class TensorUnpickler(pickle._Unpickler):
    """Builds tensors, plain containers and `ScriptObject`s; refuses every other class.

    This is the unpickler in Python: ten bytes make the one in C reserve and fill 32 GB.
    """

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}/data.pkl")))
        self.archive, self.root = archive, root
        self.storages: dict[str, bytearray] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return ScriptObject
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return rebuild_tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in STORAGE_DTYPES:
            return STORAGE_DTYPES[name]
        # restore_type_tag(value, type) only annotates a container with its script type
        if (module, name) == ("torch.jit._pickle", "restore_type_tag"):
            return lambda value, _type: value
        raise pickle.UnpicklingError(f"the class {module}.{name} is not allowed in a weights file")

    def persistent_load(self, pid: tuple[Any, ...]) -> Tensor:
        _, dtype, key, _, count = pid
        if key not in self.storages:
            # once: a thousand tensors may share it
            self.storages[key] = bytearray(self.archive.read(f"{self.root}/data/{key}"))
        return torch.frombuffer(self.storages[key], dtype=dtype, count=count)


def rebuild_tensor(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any
) -> Tensor:
    return storage.as_strided(size, stride, offset)


def collect_tensors(module: ScriptObject, prefix: str = "") -> dict[str, Tensor]:
    """The named parameters and buffers of a script module, as its state dict names them."""
    tensors = {}
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            tensors[prefix + name] = value
        elif isinstance(value, ScriptObject):
            tensors |= collect_tensors(value, f"{prefix}{name}.")
    return tensors


def script_root(archive: zipfile.ZipFile) -> str | None:
    """The top folder of a TorchScript archive; None for any other zip file."""
    names = archive.namelist()
    roots = {name.split("/", 1)[0] for name in names}
    if len(roots) == 1 and any("/code/" in name for name in names):
        return roots.pop()
    return None


def refuse_inflation(archive: zipfile.ZipFile, size: int) -> None:
    """Raises BadZipFile where a zip file of `size` bytes has records that need more memory.

    The programs that write weights compress nothing but the code of a script, which is not read.
    """
    records = [record for record in archive.infolist() if "/code/" not in record.filename]
    if sum(record.file_size for record in records) > size:
        raise zipfile.BadZipFile("its records are larger than the file")


def refuse_damage(archive: zipfile.ZipFile) -> None:
    """Raises BadZipFile where a record that is read is not as it was written."""
    for record in archive.infolist():
        if record.external_attr & FOLDER:
            # torch passes it over, and leaves its tensor as the memory was
            raise zipfile.BadZipFile(f"{record.filename} is marked as a folder")
        if "/code/" not in record.filename:
            with archive.open(record) as file:
                while file.read(2**20):
                    pass


def refuse_allocation(path: Path) -> None:
    """Raises UnpicklingError where a pickle asks for an array of bytes of any length.

    It is the one thing in torch's list of what is allowed that takes memory for nothing.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if any(content.find(name) >= 0 for name in BYTE_ARRAYS):
            raise pickle.UnpicklingError("it asks for a bytearray, which no weights need")


def refuse_claims(content: Any, size: int) -> None:
    """Raises ValueError for a tensor in nested containers that is no plain array of numbers.

    Nor may it have more numbers than its file of `size` bytes: a view that repeats one number
    takes no room until it is copied.
    """
    waiting, seen = [content], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            plain = value.layout == torch.strided and not value.is_quantized and not value.is_nested
            if not plain or value.device.type != "cpu" or value.numel() > size:
                raise ValueError(
                    f"a tensor of shape {tuple(value.shape)} is not stored number by number"
                )
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, dict) else value


def read_weights(path: Path) -> dict[str, Any]:
    """The content of a `.pt` file: a TorchScript archive's tensors, or what `torch.save` wrote.

    Raises:
        UserError: the file is missing, damaged, or holds something other than weights.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                refuse_inflation(archive, path.stat().st_size)
                refuse_damage(archive)
                root = script_root(archive)
                if root is not None:
                    tensors = collect_tensors(TensorUnpickler(archive, root).load())
                    refuse_claims(tensors, path.stat().st_size)
                    return tensors
        refuse_allocation(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
        refuse_claims(content, path.stat().st_size)
    except Exception as error:
        # damaged bytes can raise nearly anything
        reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        if "weights_only" in str(error):
            # torch's own text advises to load the file without this protection
            reason = "it is no weights file, or holds Python objects"
        raise UserError(
            f"{path}: not a readable weights file ({type(error).__name__}: {reason}). It may be "
            "damaged or incomplete, or hold Python objects, which are never loaded."
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds a {type(content).__name__}, a dictionary was expected")
    return content
