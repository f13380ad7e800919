"""Small damage is not promised to be noticed, and docs/reliability.md says so."""

import random

import pytest
from clips import make_clip
from flipped_bytes import BYTES, OUTCOMES, flipped, outcomes
from programs import ROOT

from tvr.dataloaders.reading import DECODERS


def test_so_many_bytes_are_changed(tmp_path):
    whole = make_clip(tmp_path / "whole.mp4", 3).read_bytes()
    for count in BYTES:
        new = flipped(whole, count, random.Random(0))
        assert sum(a != b for a, b in zip(whole, new, strict=True)) == count


@pytest.mark.parametrize("decoder", DECODERS)
def test_decoders_conceal_small_damage(tmp_path, decoder):
    """If they did not, the document would have to say something better."""
    found = outcomes(tmp_path, 4, 20, decoder)
    assert sum(found.values()) == 20
    assert found[OUTCOMES[2]] > 10
    text = (ROOT / "docs/reliability.md").read_text()
    assert "**Small damage is mostly not noticed.**" in text
