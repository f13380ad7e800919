"""The command line: flags, values and combinations that nobody means."""

import pytest
from hostile import NAMES, NUMBERS
from hypothesis import given
from hypothesis import strategies as st

from tvr.checks import check
from tvr.command_line import parse
from tvr.config import flags
from tvr.utils.distributed import Ranks

VALUES = (
    *(*NAMES, *map(str, NUMBERS), "0", "2", "3", "64", "128", "1e-4", "none", "None", "auto"),
    *("skip:3", "skip:-1", "error", "ViT-B/32", "tiny", "open_clip:", "open_clip:x/y", "rand"),
    *("rand-m9-n2", "rand-m1e999", "rand-n99999999", "rand-m-1-w0", "msvd", "7k", "٣", "1_0"),
)
TRAINING = ("--do_train", "1", "--anno_path", "a", "--video_path", "v", "--output_dir", "o")


def read(folder, argv=None, ranks=1):
    """Parse and check, as the program does before it looks at any file."""
    if argv is not None:
        config = parse(argv)
        check(config, Ranks(0, 0, ranks))
        config.resolve()
        assert config.public()


@pytest.fixture(scope="module")
def reader(child):
    return child("flags", read)


def values_of(f):
    """What the flag may be, so that other flags are looked at as well, or anything at all."""
    plain = (f.default, *(f.metadata["choices"] or (0, 1, 2, 0.5)))
    wild = st.one_of(st.sampled_from(VALUES), st.integers().map(str), st.floats().map(str))
    return st.one_of(st.sampled_from(plain).map(str), wild)


GIVEN = st.sampled_from(flags()).flatmap(lambda f: st.tuples(st.just(f"--{f.name}"), values_of(f)))
STRAY = st.one_of(st.sampled_from(VALUES), st.text(max_size=8)).map(lambda word: [word])


def test_a_training_is_accepted(reader):
    assert reader.judge(TRAINING) == "accepted"


@given(
    pairs=st.lists(GIVEN, max_size=6),
    stray=st.one_of(st.just([]), st.just([]), st.just([]), STRAY),
    ranks=st.sampled_from((1, 2, 3, 8)),
)
def test_flags_are_accepted_or_refused(reader, pairs, stray, ranks):
    reader.judge([*TRAINING, *(word for pair in pairs for word in pair), *stray], ranks)
