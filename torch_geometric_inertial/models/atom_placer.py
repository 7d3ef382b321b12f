r"""Places of the atoms of a bond graph, one after another: heavy atoms in the order of the graph, then hydrogens.

.. math::
    p(X \mid G) = \prod_{t=2}^{N} p(y_t \mid x_{<t}, G), \qquad x_t = o_t + R_t y_t

The first atom is the origin: the density is that of the molecule up to translation. :math:`o_t, R_t` is the
:class:`~torch_geometric_inertial.nn.bond_frame.BondFrame` of the atom. Since the whole graph is known before the first
place, an atom of a chain and one of a ring that is still open are told apart, and no place needs to foresee what the
types of later atoms will be.
"""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from torch_geometric_inertial.nn.bond_distances import FAR, bond_distances
from torch_geometric_inertial.nn.bond_frame import Axes, BondFrame, bond_axes, bond_frames
from torch_geometric_inertial.nn.bond_head import MAX_ORDER, one_hot_distance
from torch_geometric_inertial.nn.diffusion_head import DiffusionHead
from torch_geometric_inertial.nn.neighbor_messages import NeighborMessages
from torch_geometric_inertial.nn.pair_biased_attention import PairBiasedBlock
from torch_geometric_inertial.nn.pair_field import NeighborContext
from torch_geometric_inertial.nn.skeleton import EncodedSkeleton, Skeleton

MAX_SIBLINGS = 4  #: Hydrogens of one atom are told apart up to here.


class PlaceContext(NamedTuple):
    r"""Of T places: the frame, the condition of the density there [T, C], and the atoms around for its network."""
    frame: BondFrame
    cond: Tensor
    around: NeighborContext


class AtomPlacer(nn.Module):
    r"""A transformer over the bond graph, messages from the atoms around each place, and a diffusion head.

    Args:
        num_types (int): Types of heavy atoms.
        channels (int): Size :math:`C` of an atom's vector.
        heads (int): Attention heads.
        num_layers (int): Layers over the graph.
        pair_channels (int): Size of what a pair of atoms is described by.
        message_channels (int): Size of messages.
        message_rounds (int): Rounds of messages.
        num_neighbors (int): Atoms around a place, beside the parent.
        context_noise (float): Noise (Å) on the offsets that the network sees in training; targets stay clean.
        head (DiffusionHead): The density of a place.
        field_channels (int): Size of the keys that the head's network takes.
        axes (callable): The axes of a place, from the atoms around it.
            (default: :func:`~torch_geometric_inertial.nn.bond_frame.bond_axes`)
        dropout (float): Of residual branches. (default: :obj:`0.0`)
    """
    def __init__(self, num_types: int, channels: int, heads: int, num_layers: int, pair_channels: int,
                 message_channels: int, message_rounds: int, num_neighbors: int, context_noise: float,
                 head: DiffusionHead, field_channels: int, axes: Axes = bond_axes,
                 dropout: float = 0.0):
        super().__init__()
        self.num_neighbors, self.context_noise, self.axes = num_neighbors, context_noise, axes
        self.type_embedding = nn.Embedding(num_types, channels)
        self.pair = nn.Sequential(nn.Linear(MAX_ORDER + 1 + FAR + 1 + 1, 2 * pair_channels), nn.SiLU(),
                                  nn.Linear(2 * pair_channels, pair_channels))
        self.blocks = nn.ModuleList(
            PairBiasedBlock(channels, heads, pair_channels, dropout) for _ in range(num_layers))
        self.norm = nn.RMSNorm(channels)
        self.hydrogen = nn.Embedding(2, channels)
        self.query, self.sibling = nn.Linear(channels, channels), nn.Embedding(MAX_SIBLINGS + 1, channels)
        w = message_channels
        self.key_atom, self.key_query = nn.Linear(channels, w), nn.Linear(channels, w)
        self.key_hydrogen = nn.Embedding(2, w)
        self.key_order, self.key_parent_order = nn.Embedding(MAX_ORDER + 1, w), nn.Embedding(MAX_ORDER + 1, w)
        self.key_distance = nn.Embedding(FAR + 3, w)
        self.key_parent = nn.Parameter(torch.empty(w))
        self.messages = NeighborMessages(w, channels, message_rounds)
        self.field_key, self.field_message = nn.Linear(w, field_channels), nn.Linear(w, field_channels)
        self.head = head
        nn.init.normal_(self.key_parent, std=0.3)
        for module in (self.type_embedding, self.hydrogen, self.sibling, self.key_hydrogen, self.key_order,
                       self.key_parent_order, self.key_distance):
            nn.init.normal_(module.weight, std=0.3)

    def encode(self, skeleton: Skeleton, begin: Tensor) -> EncodedSkeleton:
        r"""Vectors of all atoms, given the condition :obj:`begin` [B, C]."""
        types, order, size = skeleton.graph
        batch_size, num = types.shape
        distance = bond_distances(order)
        features = torch.cat([nn.functional.one_hot(order, MAX_ORDER + 1).float(), one_hot_distance(distance),
                              order.new_zeros(batch_size, num, num, 1).float()], dim=-1)
        features = nn.functional.pad(features, (0, 0, 1, 0, 1, 0))
        features[:, 0, :, -1] = features[:, :, 0, -1] = 1  # the condition, in slot 0
        x = torch.cat([begin.unsqueeze(1), self.type_embedding(types)], dim=1)
        pair = self.pair(features.to(begin.dtype))
        exists = torch.arange(num + 1, device=types.device) <= size.unsqueeze(1)
        mask = exists.unsqueeze(1).expand(-1, num + 1, -1)
        for block in self.blocks:
            x = block(x, pair, mask)
        x = self.norm(x)[:, 1:]

        hydrogen = skeleton.is_hydrogen
        slot = torch.arange(hydrogen.size(1), device=types.device).expand_as(hydrogen)
        anchor = torch.where(hydrogen, skeleton.parent, slot).clamp(max=num - 1)
        row = torch.arange(batch_size, device=types.device).unsqueeze(1)
        atom = x[row, anchor] + self.hydrogen(hydrogen.long())
        own = hydrogen.long()
        distance = distance[row.unsqueeze(2), anchor.unsqueeze(2), anchor.unsqueeze(1)]
        distance = distance + own.unsqueeze(2) + own.unsqueeze(1)
        same = (anchor.unsqueeze(2) == anchor.unsqueeze(1)) & hydrogen.unsqueeze(2) & hydrogen.unsqueeze(1)
        key = self.key_atom(atom) + self.key_hydrogen(own)
        return EncodedSkeleton(atom, key, same.tril(-1).sum(dim=2).clamp(max=MAX_SIBLINGS), distance)

    def context(self, skeleton: Skeleton, encoded: EncodedSkeleton, pos: Tensor, row: Tensor, slot: Tensor,
                generator: torch.Generator | None = None) -> PlaceContext:
        r"""What is around the places of atoms :obj:`slot` [T] (not the first) of molecules :obj:`row` [T], of which
        :obj:`pos` [B, N, 3] has the atoms before them."""
        parent = skeleton.parent[row, slot]
        frame = bond_frames(pos, skeleton.order, row, slot, parent, self.num_neighbors, self.axes)
        offset = frame.offset
        if self.training and self.context_noise > 0:
            noise = torch.randn(offset.shape, generator=generator, device=offset.device, dtype=torch.float32)
            offset = offset + self.context_noise * noise
        query = self.query(encoded.atom[row, slot]) + self.sibling(encoded.sibling[row, slot])
        key = (encoded.key[row.unsqueeze(1), frame.slots] + self.key_query(query).unsqueeze(1)
               + self.key_order(skeleton.order[row, slot].gather(1, frame.slots))
               + self.key_parent_order(skeleton.order[row, parent].gather(1, frame.slots))
               + self.key_distance(encoded.distance[row, slot].gather(1, frame.slots)))
        key = torch.cat([key[:, :1] + self.key_parent, key[:, 1:]], dim=1)
        told, message = self.messages(offset, key, frame.valid)
        around = NeighborContext(offset, self.field_key(key) + self.field_message(message), frame.valid)
        return PlaceContext(frame, query + told, around)
