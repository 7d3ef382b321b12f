r"""Continuous batching: sequences that are done leave the batch at once, and others enter.

The engine knows nothing of what a sequence is. It admits requests into a :class:`Stepper`, lets it step, and gives the
results back in the order of the requests. Two steppers in a row make a pipeline: the results of the first are the
requests of the second, :obj:`run(run(requests, first, 64), second, 256)`.
"""
from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Protocol, TypeVar

import torch


class Request(Protocol):
    r"""What is asked for; its number is its own among all requests of a run."""
    @property
    def index(self) -> int: ...


AnyRequest = TypeVar('AnyRequest', bound=Request)
Result = TypeVar('Result')


class Stepper(Protocol[AnyRequest, Result]):
    r"""Sequences of their own lengths that advance together.

    What it makes of a request must depend on nothing but the request: not on the others in the batch, nor on when it
    came in.
    """
    def enter(self, requests: list[AnyRequest]) -> None:
        r"""Takes requests in, never more at a time than it was made for."""

    def step(self) -> dict[int, Result]:
        r"""Advances all sequences by one step, and lets those go that are done: the result by :obj:`index`."""


def run(requests: Iterable[AnyRequest], new_stepper: Callable[[int], Stepper[AnyRequest, Result]],
        capacity: int) -> Iterator[Result]:
    r"""Answers requests, in their order, as soon as they are done. Requests are taken when there is room for them, so
    there may be any number.

    When memory runs out, all that were in the batch begin again in a new stepper for half as many: as each result
    depends on its request alone, nothing changes and nothing is lost.

    Args:
        requests (iterable): Each with an :obj:`index` of its own.
        new_stepper (callable): Makes an empty stepper for so many sequences at a time.
        capacity (int): Sequences at a time.

    Raises:
        RuntimeError: Whatever a stepper raises; if memory runs out, only when there is none for a single sequence.

    Warns:
        UserWarning: When memory runs out.
    """
    source = iter(requests)
    waiting: deque[Any] = deque()  # taken, but not in the batch
    active: dict[int, Any] = {}  # in the batch
    order: deque[int] = deque()  # all that are taken and not yet given back
    done: dict[int, Any] = {}
    stepper: Stepper[Any, Any] | None = None
    while True:
        room = capacity - len(active)
        for request in islice(source, max(0, room - len(waiting))):
            waiting.append(request)
            order.append(request.index)
        entering = [waiting.popleft() for _ in range(min(room, len(waiting)))]
        active.update((request.index, request) for request in entering)
        if not active:
            return
        short = False
        try:
            if stepper is None:
                stepper = new_stepper(len(entering))
            if entering:
                stepper.enter(entering)
            finished = stepper.step()
        except RuntimeError as error:
            if not out_of_memory(error) or capacity == 1:
                raise
            short = True
        if short:  # out here the tensors of the failed step are free
            stepper, capacity = None, max(1, min(capacity, len(active)) // 2)
            waiting.extendleft(active[index] for index in sorted(active, reverse=True))
            active.clear()
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()
            warnings.warn(f'memory ran out: going on with {capacity} at a time', stacklevel=2)
            continue
        for index in finished:
            del active[index]
        done.update(finished)
        while order and order[0] in done:
            yield done.pop(order.popleft())


def out_of_memory(error: RuntimeError) -> bool:
    r"""Whether an allocator, of a GPU or of the CPU, has run out."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or 'not enough memory' in text or "can't allocate memory" in text
