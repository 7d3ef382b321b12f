r"""How types, parents and places are drawn, and where the random numbers of a molecule come from."""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from torch_geometric_inertial.nn.diffusion_head import NUM_STEPS


@dataclass(frozen=True)
class Sampling:
    r"""The settings of a draw.

    Args:
        temperature (float): Of the types and parents; 0 takes the most likely. (default: :obj:`1.0`)
        top_p (float): Types are drawn from the smallest set of at least this probability. (default: :obj:`1.0`)
        num_steps (int): Evaluations of the diffusion head an atom. (default: :obj:`12`)
        solver (str): Of :data:`~torch_geometric_inertial.nn.flow_solvers.SOLVERS`. (default: :obj:`'dpmpp'`)
        guidance_scale (float): :math:`w` in :math:`\emptyset + w (c - \emptyset)`, for the logits of types and
            parents and for the denoised place: 0 is unconditional, 1 conditional, more is further that way.
            (default: :obj:`1.0`)
    """
    temperature: float = 1.0
    top_p: float = 1.0
    num_steps: int = NUM_STEPS
    solver: str = 'dpmpp'
    guidance_scale: float = 1.0

    def __post_init__(self):
        if not self.temperature >= 0:
            raise ValueError(f"'temperature' must not be negative (got {self.temperature})")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"'top_p' must be in (0, 1] (got {self.top_p})")
        if not math.isfinite(self.guidance_scale):
            raise ValueError(f"'guidance_scale' must be finite (got {self.guidance_scale})")

    @property
    def branches(self) -> int:
        r"""Passes a molecule: 2 where conditional and unconditional ones are mixed."""
        return 1 if self.guidance_scale in (0, 1) else 2


class RandomNumbers(NamedTuple):
    r"""Of one molecule: uniform :obj:`chance` [N + 1, 2], normal :obj:`noise` [N, 3], and the generator that goes on
    from there."""
    chance: Tensor
    noise: Tensor
    generator: torch.Generator


def random_numbers(seed: int, index: int, max_atoms: int) -> RandomNumbers:
    r"""The random numbers of molecule :math:`i`, a function of :math:`(seed, i)`, so that it depends on no other."""
    generator = torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + index * 0xD1B54A32D192ED03) % 2**63)
    chance = torch.rand(max_atoms + 1, 2, generator=generator)
    return RandomNumbers(chance, torch.randn(max_atoms, 3, generator=generator), generator)


def draw(logits: Tensor, chance: Tensor, temperature: float, top_p: float) -> Tensor:
    r"""Draws a class a row by inverting the cumulative distribution at :obj:`chance`.

    Args:
        logits (Tensor): [R, V].
        chance (Tensor): Uniform numbers [R].
        temperature (float): 0 takes the most likely class.
        top_p (float): Keep the smallest set of classes of at least this probability.
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    prob, order = (logits.double() / temperature).softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    before = prob.cumsum(dim=-1) - prob
    prob = prob.masked_fill(before >= top_p, 0)
    total = prob.cumsum(dim=-1)
    pick = (total <= chance.double().unsqueeze(-1) * total[:, -1:]).sum(dim=-1, keepdim=True)
    return order.gather(-1, pick.clamp(max=prob.size(-1) - 1)).squeeze(-1)
