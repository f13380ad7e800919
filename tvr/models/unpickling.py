"""Tensors from a pickle in which nothing is run: see `archive.py` for the files that have one."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tvr.utils.pickles import Opcodes, PlainUnpickler

STORAGE_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
MOST_DIMENSIONS = 64

Storages = Callable[[str, torch.dtype, int], Tensor]


class ScriptObject:
    """Stands for any TorchScript class: it has attributes and no behaviour."""

    def __init__(self) -> None:
        self.attributes: Any = {}


class TensorUnpickler(PlainUnpickler):
    """Builds tensors, plain containers and `ScriptObject`s; refuses every other class.

    `storage` gives what is stored under a key: so many numbers of a type.
    """

    dispatch = Opcodes("NEWOBJ", "BUILD", "BINPERSID")
    dispatch.update(PlainUnpickler.dispatch)

    def __init__(self, file: Any, storage: Storages) -> None:
        # text of Python 2 is bytes there
        super().__init__(file, encoding="utf-8")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return ScriptObject
        if module == "torch._utils" and name in REBUILDING:
            return REBUILDING[name]
        if (module, name) == ("collections", "OrderedDict"):
            # it may not be filled by the call, which would copy the same content again and again
            return lambda: OrderedDict()
        if module == "torch" and name in STORAGE_DTYPES:
            return STORAGE_DTYPES[name]
        # restore_type_tag(value, type) only annotates a container with its script type
        if (module, name) == ("torch.jit._pickle", "restore_type_tag"):
            return lambda value, _type: value
        raise pickle.UnpicklingError(f"the class {module}.{name} is not allowed in a weights file")

    def persistent_load(self, pid: Any) -> Tensor:
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[5:] not in ((), (None,)):
            raise pickle.UnpicklingError("it names a storage in an unknown way")
        kind, dtype, key, _, count = pid[:5]
        known = isinstance(dtype, torch.dtype) and isinstance(key, str)
        if kind != "storage" or not known or type(count) is not int or count < 0:
            raise pickle.UnpicklingError("it names a storage in an unknown way")
        return self._storage(key, dtype, count)

    def load_newobj(self) -> None:
        given, made = self.stack.pop(), self.stack.pop()
        if made is not ScriptObject or given != ():
            raise pickle.UnpicklingError("it makes an object of no script")
        self.append(ScriptObject())

    def load_build(self) -> None:
        state, built = self.stack.pop(), self.stack[-1]
        if isinstance(built, ScriptObject):
            built.attributes = state
        # a state dict's are versions of modules
        elif not isinstance(built, OrderedDict):
            raise pickle.UnpicklingError(f"it sets attributes of a {type(built).__name__}")

    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.BUILD[0]] = load_build


def rebuild_tensor(
    storage: Tensor,
    offset: int,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    requires_grad: bool = False,
    hooks: Any = None,
    metadata: Any = None,
) -> Tensor:
    """A view of a storage. Raises UnpicklingError where it is to be negated, conjugated, …"""
    if metadata or len(size) > MOST_DIMENSIONS:
        raise pickle.UnpicklingError("a tensor is not stored number by number")
    return storage.as_strided(size, stride, offset)


def rebuild_parameter(tensor: Tensor, requires_grad: bool, hooks: Any) -> Tensor:
    """The tensor of a parameter."""
    return tensor


REBUILDING = {"_rebuild_tensor_v2": rebuild_tensor, "_rebuild_parameter": rebuild_parameter}
