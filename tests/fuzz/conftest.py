"""How many inputs each target gets: some in `make test`, the same ones every time; many in
`make fuzz`."""

import os

import pytest
from child import TALLIES, Child
from hypothesis import HealthCheck, Phase, settings

INPUTS = int(os.environ.get("FUZZ_INPUTS", "60"))

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
def child(tmp_path_factory):
    """Starts processes that read hostile files: `child(name of the target, function)`."""
    started = []

    def start(name, read):
        started.append(Child(name, read, tmp_path_factory.mktemp("child")))
        return started[-1]

    yield start
    for process in started:
        process.close()


def pytest_terminal_summary(terminalreporter):
    """One line a target: inputs, and what became of them."""
    if TALLIES:
        terminalreporter.section("hostile files")
        terminalreporter.line("| target | inputs | defined errors | accepted | crashes |")
        terminalreporter.line("| --- | ---: | ---: | ---: | ---: |")
    for name, tally in TALLIES.items():
        counts = (tally[kind] for kind in ("inputs", "refused", "accepted", "crashed"))
        terminalreporter.line(f"| {name} | " + " | ".join(f"{n:,}" for n in counts) + " |")
