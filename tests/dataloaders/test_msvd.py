import builtins
import collections
import os
import pickle
import sys

import pytest
from formats import write_ids, write_msvd

from tvr.dataloaders.msvd import load_plain_pickle, read_captions
from tvr.utils.errors import UserError

NAME = "raw-captions.pkl"


@pytest.fixture
def folder(tmp_path):
    write_msvd(tmp_path)
    return tmp_path


class Runs:
    """Pickled as a call of any function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_tokens_are_joined_in_the_order_of_the_list(folder):
    split = read_captions(folder, "standard", "train")
    assert split.video_ids == ["-4wsuPCjDBc_5_15", "mv89psg6zh4_33_46"]
    assert [(c.caption_id, c.text) for c in split.captions] == [
        ("-4wsuPCjDBc_5_15#0", "a squirrel eats a nut"),
        ("-4wsuPCjDBc_5_15#1", "a nut is eaten"),
        ("mv89psg6zh4_33_46#0", "a bird sings"),
    ]
    assert (split.documented_videos, split.documented_captions) == (1_200, 48_774)
    assert split.left_out_counts() == {}
    assert split.rows == {"train_list.txt": 2, NAME: 6}


def test_test_split_has_all_captions(folder):
    split = read_captions(folder, "standard", "test")
    texts = ["a cat", "a dog", "the dog runs", "🐕 !"]
    assert [caption.text for caption in split.captions] == texts
    assert (split.documented_videos, split.documented_captions) == (670, 27_763)
    assert read_captions(folder, "standard", "val").documented_captions == 4_290


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_way_to_write_a_plain_pickle(folder, protocol):
    expected = read_captions(folder, "standard", "train")
    path = folder / NAME
    content = load_plain_pickle(path)
    path.write_bytes(pickle.dumps(content, protocol))
    assert read_captions(folder, "standard", "train") == expected
    path.write_bytes(pickle.dumps(collections.OrderedDict(content), protocol))
    assert read_captions(folder, "standard", "train") == expected
    path.write_bytes(pickle.dumps(collections.defaultdict(list, content), protocol))
    assert read_captions(folder, "standard", "train") == expected
    strings = {v: tuple(map(" ".join, captions)) for v, captions in content.items()}
    path.write_bytes(pickle.dumps(strings, protocol))
    assert read_captions(folder, "standard", "train") == expected


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("inside", [False, True])
def test_hostile_pickle_runs_nothing(folder, tmp_path, protocol, inside):
    mark = tmp_path / "mark"
    code = f"open({str(mark)!r}, 'w').close()"
    calls = [
        Runs(os.system, f"touch {mark}"),
        Runs(builtins.exec, code),
        Runs(builtins.eval, code),
        Runs(os.mkdir, str(mark)),
        Runs(collections.Counter, "abc"),
    ]
    for call in calls:
        content = {"vid2_0_9": [["a", call]]} if inside else call
        (folder / NAME).write_bytes(pickle.dumps(content, protocol))
        with pytest.raises(UserError, match=rf"{NAME}: not a pickle of plain .* asks for"):
            read_captions(folder, "standard", "test")
        assert not mark.exists()
    # the same bytes do run where they are trusted
    pickle.loads(pickle.dumps(calls[0], protocol))
    assert mark.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_the_factory_of_a_defaultdict_cannot_be_called(folder, protocol):
    (folder / NAME).write_bytes(pickle.dumps({"vid1_0_9": Runs(list, ("a", "b"))}, protocol))
    with pytest.raises(UserError, match="'NoneType' object is not callable"):
        read_captions(folder, "standard", "val")
    (folder / NAME).write_bytes(pickle.dumps(collections.defaultdict(os.system), protocol))
    with pytest.raises(UserError, match=r"asks for \w+\.system"):
        read_captions(folder, "standard", "val")


def test_a_defaultdict_of_python_2(folder):
    # what Python 2.7 writes, protocol 2, with text as unicode
    (folder / NAME).write_bytes(
        b"\x80\x02ccollections\ndefaultdict\nq\x00c__builtin__\nlist\nq\x01\x85Rq\x02"
        b"X\x08\x00\x00\x00vid1_0_9q\x03]q\x04]q\x05(X\x01\x00\x00\x00aX\x03\x00\x00\x00maneas."
    )
    (caption,) = read_captions(folder, "standard", "val").captions
    assert caption.text == "a man"


def test_a_pickle_sets_nothing_on_what_it_named(folder):
    named = b"\x80\x02ccollections\ndefaultdict\n"
    (folder / NAME).write_bytes(named + b"N}X\x04\x00\x00\x00markX\x01\x00\x00\x00xs\x86b.")
    with pytest.raises(UserError, match="has the opcode b'b', which no data need"):
        load_plain_pickle(folder / NAME)


def test_import_alone_is_refused(folder, monkeypatch):
    monkeypatch.delitem(sys.modules, "this", raising=False)
    (folder / NAME).write_bytes(b"cthis\ns\n.")
    with pytest.raises(UserError, match=r"asks for this\.s"):
        read_captions(folder, "standard", "train")
    assert "this" not in sys.modules


@pytest.mark.parametrize("content", [b"", b"captions", b"\x80\x04\x95", b"(lp0\nS'a", b"Pid\n."])
def test_damaged_pickle(folder, content):
    (folder / NAME).write_bytes(content)
    with pytest.raises(UserError, match=f"{NAME}: not a pickle of plain"):
        read_captions(folder, "standard", "train")


def test_few_bytes_do_not_reserve_the_memory(folder):
    # an empty list, remembered under the number 2**31 - 1
    (folder / NAME).write_bytes(b"\x80\x02]r\xff\xff\xff\x7f.")
    with pytest.raises(UserError, match="a dictionary from ids to captions is needed"):
        read_captions(folder, "standard", "train")


def test_truncated_pickle(folder):
    path = folder / NAME
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match=f"{NAME}: not a pickle of plain"):
        read_captions(folder, "standard", "train")


@pytest.mark.parametrize(
    "content",
    [["a"], {1: [["a"]]}, {"vid1_0_9": "a dog"}, {"vid1_0_9": [[1]]}, {"vid1_0_9": [None]}],
)
def test_pickle_of_another_shape(folder, content):
    (folder / NAME).write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=NAME):
        read_captions(folder, "standard", "val")


def test_empty_captions_are_counted(folder):
    (folder / NAME).write_bytes(pickle.dumps({"vid1_0_9": [[], ["a", "dog"], ["", " "]]}))
    split = read_captions(folder, "standard", "val")
    assert [(c.caption_id, c.text) for c in split.captions] == [("vid1_0_9#0", "a dog")]
    places = [f"{folder / NAME}, vid1_0_9, caption {number}" for number in (1, 3)]
    assert split.left_out == {"empty captions": [("vid1_0_9", place) for place in places]}


@pytest.mark.parametrize("said", [["a", "man"], ("man",), ["a", " "]])
def test_tokens_in_place_of_captions(folder, said):
    (folder / NAME).write_bytes(pickle.dumps({"vid1_0_9": said}))
    with pytest.raises(UserError, match=f"{NAME}, vid1_0_9: .* one caption's tokens"):
        read_captions(folder, "standard", "val")


def test_sentences_in_place_of_tokens(folder):
    (folder / NAME).write_bytes(pickle.dumps({"vid1_0_9": ["dancing", "a man dances"]}))
    texts = [caption.text for caption in read_captions(folder, "standard", "val").captions]
    assert texts == ["dancing", "a man dances"]


@pytest.mark.parametrize("said", [None, [], [[]]])
def test_video_without_captions(folder, said):
    content = {} if said is None else {"vid3_0_9": said}
    (folder / NAME).write_bytes(pickle.dumps({"vid2_0_9": [["a"]], **content}))
    message = rf"test_list.txt, line 2: vid3_0_9 has no caption in .*{NAME} \(1 of 2"
    with pytest.raises(UserError, match=message):
        read_captions(folder, "standard", "test")


def test_ids_with_extension(folder):
    expected = [c.text for c in read_captions(folder, "standard", "test").captions]
    write_ids(folder / "test_list.txt", ["vid2_0_9.avi", "vid3_0_9.avi"])
    assert [c.text for c in read_captions(folder, "standard", "test").captions] == expected
