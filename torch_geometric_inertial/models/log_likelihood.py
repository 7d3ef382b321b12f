r"""The likelihood of molecules under a generator."""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.models.atom_transformer import AtomTransformer
from torch_geometric_inertial.models.bonded_network import BondedNetwork
from torch_geometric_inertial.models.prefix_likelihood import log_softmax_at
from torch_geometric_inertial.nn.condition import conditions_of
from torch_geometric_inertial.nn.flow_density import flow_log_density


class LogProb(NamedTuple):
    r"""Log-probabilities in nats, densities for lengths in Å; T atoms of B molecules, float64.

    Attributes:
        total (Tensor): Of each molecule [B]: the sum of all that follows.
        type (Tensor): Of each atom's element [T].
        coord (Tensor): Density of its place [T].
        bond (Tensor): Of its bonds to the atoms before it [T]; 0 where the model writes none and for the first atom.
        stop (Tensor): Of the end after the last atom [B].
    """
    total: Tensor
    type: Tensor
    coord: Tensor
    bond: Tensor
    stop: Tensor


@torch.no_grad()
def log_prob(model: AtomTransformer, data: Data, num_steps: int = 16, chunk_size: int = 1024) -> LogProb:
    r"""The likelihood of a molecule or a batch, see
    :meth:`~torch_geometric_inertial.models.AtomAutoregressor.log_prob`."""
    was_training = model.training
    model.eval()
    try:
        out = model.encode(data)
        coord = flow_log_density(model.head, out.pos, out.cond, num_steps, chunk_size=chunk_size)
    finally:
        model.train(was_training)
    logits = out.type_logits.double()
    logits[out.token_ptr[:-1], model.stop] = -torch.inf  # a molecule has an atom
    log_type = log_softmax_at(logits, out.next_type)
    last = out.token_ptr[1:] - 1
    is_atom = torch.ones_like(log_type, dtype=torch.bool).index_fill(0, last, False)
    log_type, stop = log_type[is_atom], log_type[last]
    batch = torch.repeat_interleave(out.ptr.diff())
    total = stop.index_add(0, batch, log_type + coord)
    return LogProb(total, log_type, coord, torch.zeros_like(coord), stop)


@torch.no_grad()
def bonded_log_prob(model: BondedNetwork, data: Data, num_steps: int = 16, chunk_size: int = 1024) -> LogProb:
    r"""The same of a model that writes bonds: graph and places. A hydrogen has neither a type nor bonds of its own, as
    its parent's type tells of it."""
    was_training = model.training
    model.eval()
    try:
        skeleton, pos = model.read(data)
        num = skeleton.length.numel()
        conditions = conditions_of(data)
        graph = model.graph.log_prob(skeleton.graph, model.graph_condition(conditions, num))
        encoded = model.placer.encode(skeleton, model.place_condition(conditions, num))
        slot = torch.arange(pos.size(1), device=pos.device)
        exists = slot < skeleton.length.unsqueeze(1)
        row, at = (exists & (slot > 0)).nonzero(as_tuple=True)
        place = model.placer.context(skeleton, encoded, pos, row, at)
        density = flow_log_density(model.placer.head, place.frame.to_local(pos[row, at]), place.cond, num_steps,
                                   neighbors=place.around, chunk_size=chunk_size)
    finally:
        model.train(was_training)
    size = skeleton.graph.size
    stop = graph.type.gather(1, size.unsqueeze(1)).squeeze(1).double()
    heavy = slot[:graph.bond.size(1)] < size.unsqueeze(1)
    log_type, bond, coord = (density.new_zeros(exists.shape) for _ in range(3))
    log_type[:, :heavy.size(1)] = torch.where(heavy, graph.type[:, :-1].double(), 0.0)
    bond[:, :heavy.size(1)] = graph.bond.double()
    coord[row, at] = density
    total = stop + (log_type + bond + coord).sum(dim=1)
    return LogProb(total, log_type[exists], coord[exists], bond[exists], stop)
