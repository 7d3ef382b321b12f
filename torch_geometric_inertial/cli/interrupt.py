r"""A command that is told to stop keeps the molecules that it has written."""
from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, TypeVar

T = TypeVar('T')


class Stopped(BaseException):
    r"""SIGINT or SIGTERM has come; the exit status is 128 and the number of the signal."""
    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def status(self) -> int:
        return 128 + self.number


class Stoppable:
    r"""As long as the context lasts, SIGINT and SIGTERM raise :class:`Stopped`; while :meth:`until_stopped` is iterated
    over, the first one ends the iteration instead, and :meth:`check` raises it once the file is whole. Outside of the
    main thread nothing is caught."""
    def __init__(self):
        self.number: int | None = None
        self._inside = self._computing = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Stoppable:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
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
                    self._computing = False
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
