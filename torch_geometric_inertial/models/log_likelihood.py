r"""The likelihood of molecules under a generator: exactly, and of beginnings quickly enough to compare many."""
from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.models.atom_transformer import AtomTransformer, TeacherForcedOutput
from torch_geometric_inertial.nn.diffusion_head import DiffusionHead
from torch_geometric_inertial.nn.flow_density import flow_log_density

NOISE_LEVELS = (0.05, 3.0, 6)  #: Å; the first, the last, how many: where poses of a prefix differ.


class LogProb(NamedTuple):
    r"""Log-probabilities in nats, densities for lengths in Å; T atoms of B molecules, float64.

    Attributes:
        total (Tensor): Of each molecule [B]: the sum of all that follows.
        type (Tensor): Of each atom's element [T].
        coord (Tensor): Density of its place [T].
        parent (Tensor): Of the atom that it is placed from [T]; 0 without parents and for the first atom.
        stop (Tensor): Of the end after the last atom [B].
    """
    total: Tensor
    type: Tensor
    coord: Tensor
    parent: Tensor
    stop: Tensor


@torch.no_grad()
def log_prob(model: AtomTransformer, data: Data, num_steps: int = 16, chunk_size: int = 1024) -> LogProb:
    r"""The likelihood of a molecule or a batch, see
    :meth:`~torch_geometric_inertial.models.AtomAutoregressor.log_prob`."""
    was_training = model.training
    model.eval()
    try:
        out = model.encode(data)
        coord = flow_log_density(model.head, out.local, out.cond, num_steps, neighbors=out.neighbors,
                                 chunk_size=chunk_size)
    finally:
        model.train(was_training)
    logits = out.type_logits.double()
    logits[out.token_ptr[:-1], model.stop] = -torch.inf  # a molecule has an atom
    log_type = _log_softmax_at(logits, out.next_type)
    last = out.token_ptr[1:] - 1
    is_atom = torch.ones_like(log_type, dtype=torch.bool).index_fill(0, last, False)
    log_type, stop = log_type[is_atom], log_type[last]
    parent = _parent_log_prob(out)
    batch = torch.repeat_interleave(out.ptr.diff())
    total = stop.index_add(0, batch, log_type + parent + coord)
    return LogProb(total, log_type, coord, parent, stop)


def prefix_log_prob(out: TeacherForcedOutput, head: DiffusionHead, noise: Tensor) -> Tensor:
    r"""Log-probability of the types and parents of each molecule, and a lower bound of that of its places.

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
    score = _log_softmax_at(out.type_logits[token].double(), out.next_type[token]) + _parent_log_prob(out)
    cond = head.cond_linear(out.cond)
    first, last, number = NOISE_LEVELS
    step = math.log(last / first) / (number - 1)
    for i in range(number):
        sigma = first * math.exp(i * step)
        level = noise.new_full((noise.size(0), 1), sigma)
        error = head.denoise(out.local + sigma * noise, level, cond, out.neighbors) - out.local
        score = score - step * error.double().square().sum(dim=-1) / sigma**2
    return score.new_zeros(out.ptr.numel() - 1).index_add(0, batch, score)


def _parent_log_prob(out: TeacherForcedOutput) -> Tensor:
    r"""Of each atom [T]; 0 without parents and for the first atom of a molecule."""
    if out.parent_logits is None:
        return torch.zeros_like(out.parent, dtype=torch.float64)
    return torch.where(out.has_parent, _log_softmax_at(out.parent_logits.double(), out.parent), 0.0)


def _log_softmax_at(logits: Tensor, index: Tensor) -> Tensor:
    return logits.log_softmax(dim=-1).gather(-1, index.unsqueeze(-1)).squeeze(-1)
