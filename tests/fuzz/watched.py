"""Folders that nobody has any business in: the kernel tells what is done there, by any library."""

import ctypes
import os
import struct

LIBC = ctypes.CDLL(None, use_errno=True)
# from the kernel's inotify.h: changed, opened, moved, made, removed
DONE = 0x2 | 0x4 | 0x20 | 0x40 | 0x80 | 0x100 | 0x200
EVENT = struct.Struct("iIII")


class Watched:
    """Watches the files that are directly in these folders."""

    def __init__(self, folders):
        self._file = LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._file >= 0, os.strerror(ctypes.get_errno())
        for folder in folders:
            watch = LIBC.inotify_add_watch(self._file, os.fsencode(folder), DONE)
            assert watch >= 0, os.strerror(ctypes.get_errno())

    def touched(self):
        """The names of the files with which something was done since the last call."""
        try:
            told = os.read(self._file, 2**16)
        except BlockingIOError:
            return []
        names, place = set(), 0
        while place < len(told):
            *_, length = EVENT.unpack_from(told, place)
            place += EVENT.size + length
            names.add(os.fsdecode(told[place - length : place].rstrip(b"\0")))
        return sorted(names)

    def close(self):
        os.close(self._file)
