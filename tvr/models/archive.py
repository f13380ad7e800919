"""Reads the tensors of a model file without executing anything that the file contains.

OpenAI publishes CLIP as TorchScript archives. `torch.jit.load` would run the code inside such an
archive, and `torch.load(weights_only=True)` refuses it; so the tensors are taken from the
archive's pickle with an unpickler that knows tensors and plain containers only.
"""

from __future__ import annotations

import io
import pickle
import struct
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


class ScriptObject:
    """Stands for any TorchScript class: it has attributes and no behaviour."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


class TensorUnpickler(pickle.Unpickler):
    """Builds tensors, plain containers and `ScriptObject`s; refuses every other class."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}/data.pkl")))
        self.archive, self.root = archive, root

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
        raw = self.archive.read(f"{self.root}/data/{key}")
        return torch.frombuffer(bytearray(raw), dtype=dtype, count=count)


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
                root = script_root(archive)
                if root is not None:
                    return collect_tensors(TensorUnpickler(archive, root).load())
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        RuntimeError,
        ValueError,
        KeyError,
        EOFError,
        OSError,
        struct.error,
        zipfile.BadZipFile,
        AssertionError,
        AttributeError,
        TypeError,
        IndexError,
    ) as error:
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
