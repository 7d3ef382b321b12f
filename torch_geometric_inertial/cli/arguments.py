r"""What a command is told, and that it cannot do: exit status 2, in one line, before any work."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from torch_geometric_inertial.models import AtomAutoregressor


class BadArgument(ValueError):
    r"""A command cannot be carried out as it stands: a device, weights or a preset that are not there, a folder of
    another training."""


@contextmanager
def arguments() -> Iterator[None]:
    r"""What is wrong inside is wrong with the arguments."""
    try:
        yield
    except ValueError as error:
        raise BadArgument(str(error)) from error


def load_model(weights: str, device: str) -> AtomAutoregressor:
    r"""The generator of these weights on a device.

    Raises:
        BadArgument: If there is none, or no such device.
    """
    with arguments():
        return AtomAutoregressor.from_pretrained(weights, device=usable(device))


def usable(device: str) -> torch.device:
    r"""A device that is there.

    Raises:
        ValueError: If there is none of that name, or no GPU.
    """
    try:
        found = torch.device(device)
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError) as error:
        there = ['cpu', *(f'cuda:{i}' for i in range(torch.cuda.device_count()))]
        raise ValueError(f"'device' must be one that is there, {' or '.join(there)} "
                         f"(got '{device}': {str(error).splitlines()[0]})") from None
    return found


def names(given: list[str] | str | None) -> list[str] | None:
    r"""One name, several between commas, or a list of them."""
    return [name.strip() for name in given.split(',')] if isinstance(given, str) else given
