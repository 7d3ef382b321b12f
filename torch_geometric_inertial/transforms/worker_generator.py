r"""Random numbers of a transform that runs in the workers of a data loader."""
from __future__ import annotations

import torch
from torch.utils.data import get_worker_info


class WorkerGenerator:
    r"""A source of random numbers that differs between the workers of a :class:`~torch.utils.data.DataLoader`, and
    between epochs.

    A loader copies a transform, with the state of its generator, into each worker, and in each epoch again: all of them
    would draw the same. So a worker draws from a generator of its own, seeded by this one's seed and by
    :func:`torch.initial_seed`, which the loader sets anew for each worker and epoch (from its own :obj:`generator`, if
    it was given one: draws are then repeatable). In the main process this one's generator is used as it is.

    Args:
        source (torch.Generator or int): The generator, or a seed for one.
    """
    def __init__(self, source: torch.Generator | int) -> None:
        self.source = torch.Generator().manual_seed(source) if isinstance(source, int) else source
        self._worker: tuple[int, torch.Generator] | None = None

    def __call__(self) -> torch.Generator:
        r"""The generator to draw from in this process."""
        if get_worker_info() is None:
            return self.source
        seed = torch.initial_seed()
        if self._worker is None or self._worker[0] != seed:
            mixed = (seed * 0x9E3779B97F4A7C15 + self.source.initial_seed()) % 2**63  # odd factor: no two seeds collide
            self._worker = seed, torch.Generator(self.source.device).manual_seed(mixed)
        return self._worker[1]
