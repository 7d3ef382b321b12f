r"""Where the random numbers of a molecule come from, and how a class is drawn with one of them."""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class RandomNumbers(NamedTuple):
    r"""Of one molecule.

    Attributes:
        uniform (Tensor): For the type of each atom and the end [N + 1].
        noise (Tensor): For its place, standard normal [N, 3].
        generator (torch.Generator): Goes on from there.
    """
    uniform: Tensor
    noise: Tensor
    generator: torch.Generator


def random_numbers(seed: int, index: int, max_atoms: int) -> RandomNumbers:
    r"""The random numbers of molecule :math:`i`, a function of :math:`(seed, i)`, so that it depends on no other."""
    generator = torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + index * 0xD1B54A32D192ED03) % 2**63)
    uniform = torch.rand(max_atoms + 1, generator=generator, dtype=torch.float32)
    return RandomNumbers(uniform, torch.randn(max_atoms, 3, generator=generator, dtype=torch.float32), generator)


def draw(logits: Tensor, uniform: Tensor, temperature: float = 1.0, top_p: float = 1.0) -> Tensor:
    r"""Draws a class per row by inverting the cumulative distribution at :obj:`uniform`.

    Args:
        logits (Tensor): [R, V].
        uniform (Tensor): Uniform numbers [R].
        temperature (float): 0 takes the most likely class. (default: :obj:`1.0`)
        top_p (float): Keep the smallest set of classes of at least this probability. (default: :obj:`1.0`)
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    prob, order = (logits.double() / temperature).softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    before = prob.cumsum(dim=-1) - prob
    prob = prob.masked_fill(before >= top_p, 0)
    total = prob.cumsum(dim=-1)
    pick = (total <= uniform.double().unsqueeze(-1) * total[:, -1:]).sum(dim=-1, keepdim=True)
    return order.gather(-1, pick.clamp(max=prob.size(-1) - 1)).squeeze(-1)


def guided(logits: Tensor, scale: float, branches: int) -> Tensor:
    r""":math:`\emptyset + w (c - \emptyset)` of rows [n * branches, V], conditional and unconditional in turn."""
    if branches == 1:
        return logits
    cond, null = logits[0::2], logits[1::2]
    return null + scale * (cond - null)
