r"""A generator whose sequence tells the bonds: the graph of heavy atoms first, then the place of each atom.

.. math::
    p(M) = p(G)\; p(X \mid G)

The graph is written by :class:`~torch_geometric_inertial.models.graph_autoregressor.GraphAutoregressor`, the places by
:class:`~torch_geometric_inertial.models.atom_placer.AtomPlacer`. Both are exact, so is the product.
"""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_inertial.models.atom_placer import AtomPlacer
from torch_geometric_inertial.models.bonded_config import BondedConfig
from torch_geometric_inertial.models.bonded_tokenization import read_molecules
from torch_geometric_inertial.models.graph_autoregressor import GraphAutoregressor
from torch_geometric_inertial.nn.atom_vocabulary import AtomVocabulary
from torch_geometric_inertial.nn.bond_frame import Axes, bond_axes
from torch_geometric_inertial.nn.condition import Condition, conditions_of
from torch_geometric_inertial.nn.diffusion_head import DiffusionHead
from torch_geometric_inertial.nn.skeleton import Skeleton


class BondedLossTerms(NamedTuple):
    r"""Scalars: the weighted :obj:`total`, nats per heavy atom of types and of bonds, and the diffusion loss."""
    total: Tensor
    type: Tensor
    bond: Tensor
    coord: Tensor


class BondedNetwork(nn.Module):
    r"""See the module.

    Args:
        vocabulary (AtomVocabulary): The types of heavy atoms.
        graph_condition (Condition): Conditions to the first token of the graph.
        place_condition (Condition): Conditions to the vector that the placer starts from.
        graph (GraphAutoregressor): The density of bond graphs.
        placer (AtomPlacer): The density of places.
        max_atoms (int): Longest molecule.
        max_closures (int): Rings that one atom may close.
        num_draws (int): Noise draws per atom in training.
        coord_weight (float): Weight of the diffusion loss.
    """
    def __init__(self, vocabulary: AtomVocabulary, graph_condition: Condition, place_condition: Condition,
                 graph: GraphAutoregressor, placer: AtomPlacer, max_atoms: int, max_closures: int, num_draws: int,
                 coord_weight: float):
        super().__init__()
        self.vocabulary, self.graph, self.placer = vocabulary, graph, placer
        self.graph_condition, self.place_condition = graph_condition, place_condition
        self.max_atoms, self.max_closures = max_atoms, max_closures
        self.num_draws, self.coord_weight = num_draws, coord_weight

    @property
    def condition(self) -> Condition:
        r"""What the model can be asked for."""
        return self.graph_condition

    def fit_properties(self, properties: Tensor) -> None:
        r"""Tells the conditions the scale and the range of the properties: [M, P], NaN unknown."""
        self.graph_condition.fit_properties(properties)
        self.place_condition.fit_properties(properties)

    def read(self, data: Data) -> tuple[Skeleton, Tensor]:
        r"""Molecules as :func:`~torch_geometric_inertial.models.bonded_tokenization.read_molecules` reads them, in the
        precision of the model."""
        skeleton, pos = read_molecules(data, self.vocabulary, self.max_atoms, self.max_closures)
        return skeleton, pos.to(self.graph_condition.null.dtype)

    def forward(self, batch: Data, generator: torch.Generator | None = None) -> BondedLossTerms:
        r"""The training loss of molecules with bonds in canonical order; see
        :func:`~torch_geometric_inertial.models.bonded_tokenization.read_molecules`.

        Args:
            batch (Batch): The molecules; :obj:`groups` [B, G] and :obj:`properties` [B, P] where the model has them;
                :obj:`walked` [B] if some are in the order of a walk
                (:class:`~torch_geometric_inertial.training.RandomOrder`).
            generator (torch.Generator, optional): Source of the noise.
        """
        skeleton, pos = self.read(batch)
        type_loss, bond_loss = self.graph_losses(skeleton, batch, generator)
        coord_loss = self.place_loss(skeleton, pos, batch, generator)
        return BondedLossTerms(type_loss + bond_loss + self.coord_weight * coord_loss, type_loss, bond_loss, coord_loss)

    def graph_losses(self, skeleton: Skeleton, batch: Data,
                     generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        r"""Those of types and of bonds."""
        begin = self.graph_condition(conditions_of(batch), skeleton.length.numel(), generator)
        log_prob = self.graph.log_prob(skeleton.graph, self.graph.begin(begin, batch.get('walked')))
        num_heavy = skeleton.graph.size.sum()
        type_loss, bond_loss = (-x.sum() / num_heavy for x in log_prob)
        return type_loss, bond_loss

    def place_loss(self, skeleton: Skeleton, pos: Tensor, batch: Data,
                   generator: torch.Generator | None = None) -> Tensor:
        r"""That of places."""
        begin = self.place_condition(conditions_of(batch), skeleton.length.numel(), generator)
        encoded = self.placer.encode(skeleton, begin)
        slot = torch.arange(pos.size(1), device=pos.device)
        row, slot = ((slot > 0) & (slot < skeleton.length.unsqueeze(1))).nonzero(as_tuple=True)
        place = self.placer.context(skeleton, encoded, pos, row, slot, generator)
        local = place.frame.to_local(pos[row, slot])
        return self.placer.head.loss(local, place.cond, self.num_draws, generator, place.around).mean()


def bonded_network(c: BondedConfig, axes: Axes = bond_axes) -> BondedNetwork:
    r"""The network of a configuration, whose places have coordinates along these axes."""
    vocabulary = AtomVocabulary(c.atom_types)
    graph_condition, place_condition = (
        Condition(c.channels, c.num_groups, c.properties, c.condition_dropout, c.group_names) for _ in range(2))
    head = DiffusionHead(c.head_channels, c.channels, c.head_layers, sigma_data=c.sigma_data, noise_mean=c.noise_mean,
                         noise_std=c.noise_std, pair_channels=c.field_channels)
    graph = GraphAutoregressor(vocabulary, c.channels, c.heads, c.graph_layers, c.pair_channels, c.max_atoms,
                               c.max_closures, c.dropout)
    placer = AtomPlacer(len(vocabulary), c.channels, c.heads, c.place_layers, c.pair_channels, c.message_channels,
                        c.message_rounds, c.num_neighbors, c.context_noise, head, c.field_channels, axes, c.dropout)
    return BondedNetwork(vocabulary, graph_condition, place_condition, graph, placer, c.max_atoms, c.max_closures,
                         c.num_draws, c.coord_weight)
