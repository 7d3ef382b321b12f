r"""Which molecules a training step sees: a function of seed and step, so that a resumed training sees the same."""
from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

Shuffle = Callable[[torch.Generator], Tensor]


class Batches(Protocol):
    r"""Batches of all processes together, and how they are dealt out."""
    def __call__(self, step: int) -> Tensor:
        r"""The molecules of a step [B]."""
        ...

    def parts(self, index: Tensor, num: int) -> list[Tensor]:
        r"""A step's molecules in :obj:`num` parts, none of them empty: one for each process and accumulated part."""
        ...


class MoleculeBatches:
    r"""A fixed number of molecules per step, without replacement; the rest of an epoch's shuffle is left out.

    Args:
        num_molecules (int): Molecules to draw from.
        batch_size (int): Molecules per step.
        seed (int): Of the order.
        shuffle (callable, optional): The order [M] of an epoch from a generator; all molecules in any order, if not
            given.

    Raises:
        ValueError: If there are fewer molecules than :obj:`batch_size`.
    """
    def __init__(self, num_molecules: int, batch_size: int, seed: int = 0, shuffle: Shuffle | None = None):
        if not 1 <= batch_size <= num_molecules:
            raise ValueError(f"'batch_size' must be in 1 … {num_molecules}, the number of molecules (got {batch_size})")
        self.num_molecules, self.batch_size, self.seed, self.shuffle = num_molecules, batch_size, seed, shuffle
        self._epoch = -1

    def __call__(self, step: int) -> Tensor:
        per_epoch = self.num_molecules // self.batch_size * self.batch_size
        epoch, offset = divmod(step * self.batch_size, per_epoch)
        if self._epoch != epoch:
            self._epoch, self._order = epoch, shuffled(self.num_molecules, self.seed, epoch, self.shuffle)
        return self._order[offset:offset + self.batch_size]

    def parts(self, index: Tensor, num: int) -> list[Tensor]:
        return [index[i::num] for i in range(num)]


class AtomBatches:
    r"""As many molecules per step as hold at most :obj:`max_atoms` atoms, without replacement; the rest of an epoch's
    shuffle is left out. The parts have nearly the same number of atoms, and each process has a part in each step.

    Args:
        sizes (Tensor): Atoms of each molecule [M].
        max_atoms (int): Atoms per step.
        seed (int): Of the order.
        num_parts (int): Parts that a step is divided into.
        shuffle (callable, optional): See :class:`MoleculeBatches`.

    Raises:
        ValueError: If :obj:`max_atoms` does not give each part the largest molecule.
    """
    def __init__(self, sizes: Tensor, max_atoms: int, seed: int = 0, num_parts: int = 1,
                 shuffle: Shuffle | None = None):
        largest = int(sizes.max())
        if max_atoms < num_parts * largest:
            raise ValueError(f"'max_atoms' must be at least {num_parts} parts * {largest} atoms of the largest "
                             f"molecule (got {max_atoms})")
        if sizes.numel() < num_parts:
            raise ValueError(f"'sizes' must hold a molecule for each of {num_parts} parts (got {sizes.numel()})")
        self.sizes, self.max_atoms, self.seed, self.shuffle = sizes.long().cpu(), max_atoms, seed, shuffle
        self._ends = [0]  # steps before the end of each epoch
        self._epoch = -1

    def __call__(self, step: int) -> Tensor:
        while self._ends[-1] <= step:
            self._load(len(self._ends) - 1)
            self._ends.append(self._ends[-1] + self._cuts.numel() - 1)
        epoch = next(i for i in range(len(self._ends) - 1, 0, -1) if self._ends[i - 1] <= step) - 1
        self._load(epoch)
        k = step - self._ends[epoch]
        return self._order[int(self._cuts[k]):int(self._cuts[k + 1])]

    def _load(self, epoch: int) -> None:
        """The order of an epoch, and where it is cut into batches."""
        if self._epoch == epoch:
            return
        self._epoch, self._order = epoch, shuffled(self.sizes.numel(), self.seed, epoch, self.shuffle)
        total = torch.cat([self.sizes.new_zeros(1), self.sizes[self._order].cumsum(0)])
        cuts = [0]
        while int(total[-1]) - int(total[cuts[-1]]) > self.max_atoms:
            limit = total[cuts[-1]] + self.max_atoms
            cuts.append(int(torch.searchsorted(total, limit, right=True)) - 1)
        if len(cuts) == 1:  # all molecules are one batch
            cuts.append(self.sizes.numel())
        self._cuts = torch.tensor(cuts)

    def parts(self, index: Tensor, num: int) -> list[Tensor]:
        load, parts = [0] * num, [[] for _ in range(num)]  # type: tuple[list[int], list[list[int]]]
        size = self.sizes[index]
        for k in size.argsort(descending=True, stable=True).tolist():
            lightest = min(range(num), key=lambda i: (load[i], len(parts[i])))
            parts[lightest].append(int(index[k]))
            load[lightest] += int(size[k])
        return [torch.tensor(part) for part in parts]


def shuffled(num: int, seed: int, epoch: int, shuffle: Shuffle | None = None) -> Tensor:
    r"""The order [num] of an epoch."""
    generator = torch.Generator().manual_seed(mixed(seed, epoch, 0x0DD))
    return torch.randperm(num, generator=generator) if shuffle is None else shuffle(generator)


def mixed(*numbers: int) -> int:
    r"""A 63-bit seed from a few integers."""
    seed = 0
    for number in numbers:
        seed = (seed * 0x9E3779B97F4A7C15 + number + 0x7F4A7C15) % 2**63
        seed ^= seed >> 29
    return seed
