r"""How likely a model finds the beginnings of molecules, quickly enough to compare many."""
from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch_geometric_inertial.models.autoregressor import Reading
    from torch_geometric_inertial.nn.diffusion_head import DiffusionHead

NOISE_LEVELS = (0.05, 3.0, 6)  #: Å; the first, the last, how many.


def prefix_log_prob(seen: Reading, head: DiffusionHead, noise: Tensor) -> Tensor:
    r"""Log-probability of the types and parents of each molecule, and a lower bound of that of its places.

    The bound is that of a diffusion model (Kingma et al., 2021), up to a constant:

    .. math::
        \log p(y) \ge -\int \frac{\lVert D(y + \sigma \epsilon; \sigma, c) - y \rVert^2}{\sigma^2}\, d\ln\sigma + C

    over the noise levels where poses differ, with one :math:`\epsilon` that all that are compared share. The stop is
    left out: more atoms may follow.

    Args:
        seen (Reading): What the model thinks of the atoms.
        head (DiffusionHead): The model's density of places.
        noise (Tensor): Standard normal numbers :math:`\epsilon` [T, 3].

    Returns:
        Tensor: In nats [B], float64.
    """
    batch = torch.repeat_interleave(seen.ptr.diff())
    atom = torch.arange(batch.numel(), device=batch.device) + batch  # the token that foretells each atom
    score = _log_prob(seen.type_logits[atom], seen.next_type[atom])
    if seen.parent_logits is not None:
        score = score + torch.where(seen.has_parent, _log_prob(seen.parent_logits, seen.parent), 0.0)
    cond = head.cond_linear(seen.cond)
    first, last, number = NOISE_LEVELS
    step = math.log(last / first) / (number - 1)
    for i in range(number):
        sigma = first * math.exp(i * step)
        level = noise.new_full((noise.size(0), 1), sigma)
        error = head.denoise(seen.local + sigma * noise, level, cond, seen.pairs) - seen.local
        score = score - step * error.double().square().sum(dim=-1) / sigma**2
    return score.new_zeros(seen.ptr.numel() - 1).index_add(0, batch, score)


def _log_prob(logits: Tensor, index: Tensor) -> Tensor:
    return logits.double().log_softmax(dim=-1).gather(-1, index.unsqueeze(-1)).squeeze(-1)
