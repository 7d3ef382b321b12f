r"""SIGINT and SIGTERM, caught for as long as a context lasts."""
from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, TypeVar

Self = TypeVar('Self', bound='CaughtSignals')
CAUGHT = (signal.SIGINT, signal.SIGTERM)


class CaughtSignals:
    r"""A context in which :meth:`note` is what happens on SIGINT and SIGTERM; the handlers that were there come back
    at its end. Outside of the main thread nothing is caught."""
    def __init__(self):
        self._before: dict[int, Any] = {}

    def __enter__(self: Self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self.note) for number in CAUGHT}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def note(self, number: int, frame: FrameType | None) -> None:
        r"""What a subclass does when a signal has come."""
        raise NotImplementedError
