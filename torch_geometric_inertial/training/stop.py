r"""A training that is told to stop finishes its step first."""
from __future__ import annotations

import signal
import sys
from types import FrameType

from torch_geometric_inertial.signals import CaughtSignals

NAMES = ('', 'SIGTERM', 'SIGINT')


class StopSignal(CaughtSignals):
    r"""Keeps which signal came first, :obj:`name`. A SIGINT after that acts at once. Another SIGTERM does nothing:
    where a scheduler ends a job, the scheduler and :obj:`torchrun` both send one to the same process."""
    def __init__(self):
        super().__init__()
        self.name = ''

    def note(self, number: int, frame: FrameType | None) -> None:
        if not self.name:
            self.name = signal.Signals(number).name
            print(f'{self.name}: the training stops after this step; SIGINT (Ctrl-C) to stop at once', file=sys.stderr)
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
