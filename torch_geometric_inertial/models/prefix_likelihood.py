r"""How likely the beginnings of molecules are, quickly enough to compare many."""
from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_geometric_inertial.nn.diffusion_head import DiffusionHead

if TYPE_CHECKING:
    from torch_geometric_inertial.models.atom_transformer import TeacherForcedOutput

NOISE_LEVELS = (0.05, 3.0, 6)  #: Å; the first, the last, how many: where poses of a prefix differ.


def prefix_log_prob(out: TeacherForcedOutput, head: DiffusionHead, noise: Tensor) -> Tensor:
    r"""Log-probability of the types of each molecule, and a lower bound of that of its places.

    The bound is that of a diffusion model (Kingma et al., 2021), up to a constant:

    .. math::
        \log p(y) \ge -\int \frac{\lVert D(y + \sigma \epsilon; \sigma, c) - y \rVert^2}{\sigma^2}\, d\ln\sigma + C

    over the noise levels where poses differ, with one :math:`\epsilon` that all that are compared share. The stop is
    left out: more atoms may follow.

    Args:
        out (TeacherForcedOutput): The model's predictions for the atoms.
        head (DiffusionHead): The model's density of places.
        noise (Tensor): Standard normal numbers :math:`\epsilon` [T, 3].

    Returns:
        Tensor: In nats [B], float64.
    """
    batch = torch.repeat_interleave(out.ptr.diff())
    token = torch.arange(batch.numel(), device=batch.device) + batch  # the one that predicts each atom
    score = log_softmax_at(out.type_logits[token].double(), out.next_type[token])
    cond = head.cond_linear(out.cond)
    first, last, number = NOISE_LEVELS
    step = math.log(last / first) / (number - 1)
    for i in range(number):
        sigma = first * math.exp(i * step)
        level = noise.new_full((noise.size(0), 1), sigma)
        error = head.denoise(out.pos + sigma * noise, level, cond) - out.pos
        score = score - step * error.double().square().sum(dim=-1) / sigma**2
    return score.new_zeros(out.ptr.numel() - 1).index_add(0, batch, score)


def log_softmax_at(logits: Tensor, index: Tensor) -> Tensor:
    return logits.log_softmax(dim=-1).gather(-1, index.unsqueeze(-1)).squeeze(-1)
