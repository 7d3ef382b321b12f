r"""Drawing cases for as long as ``INERTIAL_FUZZ_SECONDS`` says, and how many there were at the end of the run."""
import os
import random
import time
from collections.abc import Iterator

import pytest

SECONDS = float(os.environ.get('INERTIAL_FUZZ_SECONDS', '0'))
DRAWN = pytest.StashKey[dict[str, tuple[int, str, float]]]()


class Cases:
    """Counts what a test draws. ``cases(least)`` gives one :class:`random.Random` per case, seeded by its number."""
    def __init__(self) -> None:
        self.number, self.unit, self.start = 0, 'cases', time.monotonic()

    def __call__(self, least: int) -> Iterator[random.Random]:
        first = self.number
        while self.number - first < least or time.monotonic() - self.start < SECONDS:
            yield random.Random(self.number)
            self.number += 1


@pytest.fixture
def cases(request) -> Iterator[Cases]:
    drawn = Cases()
    yield drawn
    request.config.stash.setdefault(DRAWN, {})[request.node.nodeid] = (
        drawn.number, drawn.unit, time.monotonic() - drawn.start)


def pytest_terminal_summary(terminalreporter) -> None:
    drawn = terminalreporter.config.stash.get(DRAWN, {})
    if drawn:
        terminalreporter.section('cases drawn')
    for name, (number, unit, seconds) in drawn.items():
        terminalreporter.write_line(f'{number:10,} {unit:<14} {seconds:7.0f} s  {name.rsplit("/", 1)[-1]}')
