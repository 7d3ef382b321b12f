r"""A command that is told to stop keeps the molecules that it has written."""
from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TypeVar

from torch_geometric_inertial.signals import CaughtSignals

T = TypeVar('T')


class Stopped(BaseException):
    r"""SIGINT or SIGTERM has come; the exit status is 128 and the number of the signal."""
    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def status(self) -> int:
        return 128 + self.number


class Stoppable(CaughtSignals):
    r"""SIGINT and SIGTERM raise :class:`Stopped`; while :meth:`until_stopped` is iterated over, the first one ends the
    iteration instead, and :meth:`check` raises it once the file is whole."""
    def __init__(self):
        super().__init__()
        self.number: int | None = None
        self._inside = self._computing = False

    def note(self, number: int, frame: FrameType | None) -> None:
        again, self.number = self.number is not None, number
        if again or self._computing or not self._inside:
            raise Stopped(number)

    def until_stopped(self, items: Iterable[T]) -> Iterator[T]:
        r"""The items that come before a signal. None at all is :class:`Stopped`, so that no empty file is written."""
        iterator, count = iter(items), 0
        self._inside = True
        try:
            while self.number is None:
                try:
                    self._computing = True
                    item = next(iterator)
                except (StopIteration, Stopped):
                    break
                finally:
                    self._computing = False
                count += 1
                yield item
            if self.number is not None and not count:
                raise Stopped(self.number)
        finally:
            self._inside = False

    def check(self) -> None:
        if self.number is not None:
            raise Stopped(self.number)
