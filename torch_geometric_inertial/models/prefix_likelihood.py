r"""How likely the beginnings of molecules are, quickly enough to compare many."""
from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_geometric_inertial.nn.diffusion_head import DiffusionHead

if TYPE_CHECKING:
    from torch_geometric_inertial.models.atom_transformer import TeacherForcedOutput


def prefix_log_prob(out: TeacherForcedOutput, head: DiffusionHead, noise: Tensor) -> Tensor:
    r"""Log-probability of the types of each molecule, and a lower bound of that of its places, up to a constant
    (:meth:`~torch_geometric_inertial.nn.DiffusionHead.log_prob_bound`). The stop is left out: more atoms may follow.

    Args:
        out (TeacherForcedOutput): The model's predictions for the atoms.
        head (DiffusionHead): The model's density of places.
        noise (Tensor): Standard normal numbers :math:`\epsilon` [T, 3], the same for all that are compared.

    Returns:
        Tensor: In nats [B], float64.
    """
    batch = torch.repeat_interleave(out.ptr.diff())
    token = torch.arange(batch.numel(), device=batch.device) + batch  # the one that predicts each atom
    score = log_softmax_at(out.type_logits[token].double(), out.next_type[token])
    score = score + head.log_prob_bound(out.pos, out.cond, noise)
    return score.new_zeros(out.ptr.numel() - 1).index_add(0, batch, score)


def log_softmax_at(logits: Tensor, index: Tensor) -> Tensor:
    return logits.log_softmax(dim=-1).gather(-1, index.unsqueeze(-1)).squeeze(-1)
