r"""A training that is told to stop finishes its step first."""
from __future__ import annotations

import signal
import sys
from types import FrameType

from torch_geometric_inertial.signals import CaughtSignals

NAMES = ('', 'SIGTERM', 'SIGINT')


class StopSignal(CaughtSignals):
    r"""Keeps which signal came, :obj:`name`. A second one acts at once, as it would have without."""
    def __init__(self):
        super().__init__()
        self.name = ''

    def note(self, number: int, frame: FrameType | None) -> None:
        if self.name:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            raise SystemExit(128 + number)
        self.name = signal.Signals(number).name
        print(f'{self.name}: the training stops after this step; once more to stop at once', file=sys.stderr)
