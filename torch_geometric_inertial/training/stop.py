r"""A training that is told to stop finishes its step first."""
from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any

NAMES = ('', 'SIGTERM', 'SIGINT')


class StopSignal:
    r"""Catches SIGTERM and SIGINT for as long as the context lasts, and keeps which came, :obj:`name`. A second one
    acts at once, as it would have without. Outside of the main thread nothing is caught."""
    def __init__(self):
        self.name = ''
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            for name in NAMES[1:]:
                number = getattr(signal, name)
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.name:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            raise SystemExit(128 + number)
        self.name = signal.Signals(number).name
        print(f'{self.name}: the training stops after this step; once more to stop at once', file=sys.stderr)
