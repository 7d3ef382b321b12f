r"""A small generator with bonds, and molecules for it."""
from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.models.atom_placer import AtomPlacer
from torch_geometric_inertial.models.bonded_network import BondedNetwork
from torch_geometric_inertial.models.graph_autoregressor import GraphAutoregressor
from torch_geometric_inertial.nn.atom_vocabulary import AtomVocabulary, atom_types_of
from torch_geometric_inertial.nn.condition import Condition
from torch_geometric_inertial.nn.diffusion_head import DiffusionHead
from torch_geometric_inertial.transforms import canonical


def canonical_molecules(num: int, first: int = 0) -> list[Data]:
    r"""Real molecules in the order that a model with bonds reads."""
    sample, prepare = QM9Sample(), canonical()
    return [prepare(sample[i]) for i in range(first, first + num)]


def small_network(seed: int = 0, num_groups: int = 0, dtype: torch.dtype = torch.float64) -> BondedNetwork:
    r"""Random weights that matter, in evaluation mode."""
    torch.manual_seed(seed)
    vocabulary = AtomVocabulary(atom_types_of(Batch.from_data_list(canonical_molecules(300))))
    condition, place_condition = (Condition(24, num_groups, (), 0.1) for _ in range(2))
    graph = GraphAutoregressor(vocabulary, 24, 2, 2, 8, 30, 3)
    head = DiffusionHead(16, 24, 2, sigma_data=0.8, pair_channels=8)
    placer = AtomPlacer(len(vocabulary), 24, 2, 2, 8, 16, 2, 28, 0.02, head, 8)
    network = BondedNetwork(vocabulary, condition, place_condition, graph, placer, 30, 3, 2, 1.0)
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1:
            # the flow of a wild head would leave the molecule
            torch.nn.init.normal_(parameter, std=0.05 if '.head.' in f'.{name}' else 0.25)
    return network.to(dtype).eval()


def turned(data: Data, rotation: Tensor, shift: Tensor) -> Data:
    r"""A molecule in another pose."""
    data = data.clone()
    data.pos = data.pos @ rotation.T.to(data.pos) + shift.to(data.pos)
    return data
