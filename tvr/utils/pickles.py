"""A reader of pickles that others have written: nothing is run, and little asks for little.

A pickle is a program. It makes an object once and names it a thousand times, so a few bytes may
stand for more than any memory holds, or for a dictionary key whose hash is never computed to its
end. `PlainUnpickler` carries out what plain data need, `refuse_expansion` counts what came of it.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

# What PyTorch's programs write (protocol 2)
BINARY = (
    *("PROTO", "STOP", "MARK", "BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"),
    *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
    *("BINUNICODE", "SHORT_BINSTRING", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"),
    *("EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "GLOBAL", "REDUCE"),
)
# What Python writes of plain data with its other protocols
ANY_PROTOCOL = (
    *("FRAME", "MEMOIZE", "PUT", "GET", "POP", "POP_MARK", "DUP", "INT", "LONG", "FLOAT"),
    *("STRING", "BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "LIST", "STACK_GLOBAL"),
)


class Opcodes(dict[int, Callable[..., None]]):
    """What is done for each opcode. Raises UnpicklingError for one that is not among them."""

    def __init__(self, *names: str) -> None:
        codes = [getattr(pickle, name)[0] for name in names]
        super().__init__({code: pickle._Unpickler.dispatch[code] for code in codes})

    def __missing__(self, code: int) -> Callable[..., None]:
        raise pickle.UnpicklingError(f"it has the opcode {bytes([code])!r}, which no data need")


class PlainUnpickler(pickle._Unpickler):
    """Lists, tuples, dictionaries, strings, numbers, and what a subclass's `find_class` allows.

    The keys of dictionaries are strings and numbers. This is the unpickler in Python: ten bytes
    make the one in C reserve and fill 32 GB.
    """

    dispatch = Opcodes(*BINARY)
    # What Python's unpickler has, and its published types leave out
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._set(items)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def load_setitems(self) -> None:
        self._set(self.pop_mark())

    def _set(self, items: list[Any]) -> None:
        holder = self.stack[-1]
        if not isinstance(holder, dict):
            raise pickle.UnpicklingError(f"it sets items of a {type(holder).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # the hash of a tuple takes as long as what it spells out
            if not isinstance(key, str | int | float | None):
                raise pickle.UnpicklingError(f"it has a key of type {type(key).__name__}")
            holder[key] = value

    dispatch[pickle.DICT[0]] = load_dict
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems


def refuse_expansion(content: Any, most: int, weight: Callable[[Any], int]) -> None:
    """Raises ValueError where nested lists, tuples and dictionaries spell out to more than `most`.

    Everything counts as often as it is named: containers 1 for each of their values, all else its
    `weight`, which may raise ValueError for what has no business there.
    """
    waiting, left = [content], most
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list | tuple):
            left -= len(value)
            parts = value.values() if isinstance(value, dict) else value
        else:
            left -= weight(value)
            parts = ()
        if left < 0:
            raise ValueError("a few bytes of it stand for many values")
        waiting += parts
