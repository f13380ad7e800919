"""Pickles that are read without trusting them: what is carried out, and what it spells out to."""

import io
import pickle

import pytest

from tvr.utils.pickles import ANY_PROTOCOL, Opcodes, PlainUnpickler, refuse_expansion


class Reader(PlainUnpickler):
    dispatch = Opcodes(*ANY_PROTOCOL)
    dispatch.update(PlainUnpickler.dispatch)


def read(pickled, reader=Reader):
    return reader(io.BytesIO(pickled)).load()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_in_every_protocol(protocol):
    word, shared = "again", [1]
    content = {"a": [None, True, 1, -(2**40), 2.5, word, word, shared, shared], 1: (), 0.5: {}}
    content["tuples"] = [(1,), (1, 2), (1, 2, 3), (1, 2, 3, 4, "x" * 300, "🐕")]
    found = read(pickle.dumps(content, protocol))
    assert found == content
    assert found["a"][-1] is found["a"][-2]


@pytest.mark.parametrize("value", [{1}, frozenset("a"), bytearray(b"a"), b"a", 2**3000, 1j, read])
def test_anything_else_is_refused(value):
    for protocol in (2, 5):
        with pytest.raises(pickle.UnpicklingError):
            read(pickle.dumps([value], protocol))


def test_what_torch_does_not_write_is_refused_of_it():
    for protocol in (0, 4):
        with pytest.raises(pickle.UnpicklingError, match="has the opcode"):
            read(pickle.dumps([7], protocol), PlainUnpickler)


@pytest.mark.parametrize("protocol", [0, 1, 2, 5])
def test_keys_are_strings_and_numbers(protocol):
    for content in ({(): 1}, {"a": 1, ((), ()): 2}):
        with pytest.raises(pickle.UnpicklingError, match="a key of type tuple"):
            read(pickle.dumps(content, protocol))


def test_items_belong_to_dictionaries():
    for pickled in (b"]K\x00K\x01s.", b"](K\x00K\x01u."):
        with pytest.raises(pickle.UnpicklingError, match="sets items of a list"):
            read(pickled)


def one(value):
    return 1


def test_everything_counts_as_often_as_it_is_named():
    """Six containers' values and four leaves."""
    pair = (1, "two")
    content = {"a": [pair, pair], "b": []}
    refuse_expansion(content, 12, one)
    with pytest.raises(ValueError, match="a few bytes of it stand for many values"):
        refuse_expansion(content, 11, one)
    refuse_expansion([1, 2], 2 + 2 * 10, lambda value: 10)
    with pytest.raises(ValueError, match="stand for many"):
        refuse_expansion([1, 2], 2 + 2 * 10 - 1, lambda value: 10)


def test_what_holds_itself_is_refused():
    endless = [0] * 1000
    endless.append(endless)
    with pytest.raises(ValueError, match="stand for many"):
        refuse_expansion(endless, 10**6, one)
