"""How values are shown."""

import pytest

from tvr.pages.html import duration, size


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        *((None, "length unknown"), (0.04, "0.0 s"), (4.25, "4.2 s"), (59.94, "59.9 s")),
        *((59.96, "1:00"), (60, "1:00"), (65.4, "1:05"), (3599.6, "1:00:00"), (3725, "1:02:05")),
    ],
)
def test_durations(seconds, shown):
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        *((0, "0 bytes"), (1, "1 byte"), (999, "999 bytes"), (1000, "1.0 kB")),
        *((999_949, "999.9 kB"), (999_950, "1.0 MB"), (81_234_567, "81.2 MB"), (3e9, "3.0 GB")),
        *((5e12, "5.0 TB"), (5e15, "5000.0 TB")),
    ],
)
def test_sizes(count, shown):
    assert size(count) == shown
