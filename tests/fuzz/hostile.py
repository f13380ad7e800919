"""Strategies that damage valid files: bytes, JSON values, and what attackers write into them."""

import json
import math

from hypothesis import strategies as st

LONG = "x" * 10_000
NAMES = (
    *("../../outside/secret", "/etc/passwd", "..", ".", "", " ", "\0", "a\0b", LONG, "-rf", "%n%s"),
    *(
        "\ud800",
        "\udcff",
        "\u202egnp.exe",
        "\ufeff",
        "CON",
        "a/b",
        "{0.__class__}",
        "\r\n",
        "\x1b[2J",
    ),
)
NUMBERS = (0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**400, 0.5, -0.0, 1e-320, 1e308)
NUMBERS += (math.inf, -math.inf, math.nan)
VALUES = (*NAMES, *NUMBERS, None, True, False, [], {}, [[]], {"": {}}, [None], [{}], [""])
DEEPEST = 6
DEEP = b"[" * 100_000
DEEP_OBJECT = b'{"a":' * 100_000
TOKENS = (
    *(b"\0", b"\xff", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff\xff\xff\xff\xff"),
    *(b'"', b"'", b",", b"\n", b"\r", b"\t", b"{", b"}", b"[", b"]", b":", b"\\u", b"\\ud800"),
    *(b"1e999", b"NaN", b"-1", b"99999999999999999999", b"null", b"\xef\xbb\xbf", b"\xed\xa0\x80"),
    *(
        b"../../outside/secret",
        b"/etc/passwd",
        "\u202e".encode(),
        b"x" * 200_000,
        DEEP,
        DEEP_OBJECT,
    ),
)


@st.composite
def damaged(draw, content):
    """The bytes with up to four changes: flipped, cut out, put in, repeated, cut off."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        first = draw(st.integers(0, len(data)))
        last = min(len(data), first + draw(st.sampled_from((1, 1, 2, 4, 8, 40, 1000))))
        kind = draw(st.sampled_from(("flip", "put", "over", "out", "twice", "random", "end")))
        if kind == "flip" and first < len(data):
            data[first] ^= 1 << draw(st.integers(0, 7))
        elif kind == "put":
            data[first:first] = draw(st.sampled_from(TOKENS))
        elif kind == "over":
            token = draw(st.sampled_from(TOKENS))
            data[first : first + len(token)] = token
        elif kind == "out":
            del data[first:last]
        elif kind == "twice":
            data[first:first] = data[first:last] * draw(st.sampled_from((1, 2, 50)))
        elif kind == "random":
            data[first:last] = draw(st.binary(min_size=last - first, max_size=last - first))
        elif kind == "end":
            del data[first:]
    return bytes(data)


def places(content, path=()):
    """The path of every value in nested lists and dictionaries, some of which have no end."""
    yield path
    if len(path) == DEEPEST:
        return
    pairs = ()
    if isinstance(content, dict):
        pairs = content.items()
    elif isinstance(content, list | tuple):
        pairs = enumerate(content)
    for key, value in pairs:
        yield from places(value, (*path, key))


def changed(content, path, change):
    """A copy in which `change(container, key)` was done where the path leads."""
    if not path:
        holder = [content]
        change(holder, 0)
        return holder[0] if holder else None
    copy = dict(content) if isinstance(content, dict) else list(content)
    if len(path) == 1:
        change(copy, path[0])
    else:
        copy[path[0]] = changed(copy[path[0]], path[1:], change)
    return copy


@st.composite
def rearranged(draw, content, values=VALUES):
    """Nested lists and dictionaries with up to three values put in, replaced or removed."""
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(places(content))))
        value = draw(st.sampled_from(values))
        name = draw(st.sampled_from(NAMES))
        kind = draw(st.sampled_from(("replace", "replace", "remove", "rename", "add", "wrap")))

        def change(holder, key, kind=kind, value=value, name=name):
            if kind == "remove":
                del holder[key]
            elif kind == "rename" and isinstance(holder, dict):
                holder[name] = holder.pop(key)
            elif kind == "add" and isinstance(holder, dict):
                holder[name] = value
            elif kind == "add":
                holder.append(value)
            elif kind == "wrap":
                holder[key] = [holder[key]] * 2
            else:
                holder[key] = value

        content = changed(content, path, change)
    return content


def damaged_json(content):
    """A JSON file's bytes, changed in its values or in its text."""
    text = json.dumps(content).encode()
    by_value = rearranged(content).map(lambda value: json.dumps(value).encode())
    return st.one_of(by_value, by_value.flatmap(damaged), damaged(text))
