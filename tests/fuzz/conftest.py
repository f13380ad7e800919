"""How many inputs each target gets: some in `make test`, the same ones every time; many in
`make fuzz`."""

import os
from collections import Counter

import pytest
from child import Child
from hypothesis import HealthCheck, Phase, settings
from tables import add_rows

INPUTS = int(os.environ.get("FUZZ_INPUTS", "60"))
HEAD = ("target", "inputs", "defined errors", "accepted", "crashes", "seconds")

settings.register_profile(
    "fuzz",
    max_examples=INPUTS,
    derandomize=True,
    database=None,
    deadline=None,
    # an input that fails is not made smaller: that may take as long as all the others
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("fuzz")


@pytest.fixture(scope="module")
def child(request, tmp_path_factory):
    """Starts processes that read hostile files: `child(name of the target, function)`."""
    started = []

    def start(name, read, may_end=False):
        folder = tmp_path_factory.mktemp("child")
        started.append(Child(name, read, folder, may_end=may_end))
        return started[-1]

    yield start
    tallies = {}
    for process in started:
        process.close()
        tallies.setdefault(process.name, Counter()).update(process.tally)
    kinds = ("inputs", "refused", "accepted", "crashed", "seconds")
    rows = [
        (f"{name}{ended(tally)}", *(tally[kind] for kind in kinds))
        for name, tally in tallies.items()
    ]
    add_rows(request.config, "hostile files", [HEAD, *rows])


def ended(tally):
    """Of those refused, how many took the process with them."""
    return f" (processes ended: {tally['ended']})" if tally["ended"] else ""
