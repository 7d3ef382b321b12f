r"""From a generator that knows some atoms to one that knows more of them, and longer molecules."""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from torch_geometric_inertial.models.autoregressor import AtomAutoregressor
from torch_geometric_inertial.models.bonded_network import BondedNetwork

Model = TypeVar('Model', bound=AtomAutoregressor)

RARER = 3.0  #: By how much the logit of a new type lies below that of the type that it is taken from.


def widened(model: Model, atom_types: Iterable[tuple[int, int, int, int]] = (), max_atoms: int = 0) -> Model:
    r"""A model that writes bonds, with further types of atoms and room for longer molecules: a beginning for training.

    A new type has the weights of the known one that is most like it, by valence, hydrogens and charge, then by element,
    and is written :math:`e^3` times as rarely at first. All else is as it was.

    Args:
        model (AtomAutoregressor): The model, which stays as it is.
        atom_types (list): As in :obj:`config.atom_types`; those that it knows already are no matter.
        max_atoms (int): Longest molecule; the model's own if that is more. (default: :obj:`0`)

    Raises:
        ValueError: If the model writes no bonds.
    """
    if not isinstance(model.network, BondedNetwork):
        raise ValueError(f"'model' must write bonds to learn of other atoms or longer molecules (got {model})")
    old = tuple(tuple(one) for one in model.config.atom_types)
    new = sorted({tuple(one) for one in atom_types} - set(old))
    source = torch.tensor([*range(len(old)), *(_nearest(one, old) for one in new)])
    config = replace(model.config, atom_types=old + tuple(new), max_atoms=max(max_atoms, model.config.max_atoms))
    wide = type(model)(config)  # type: ignore[call-arg]
    with torch.no_grad():
        stop = torch.tensor([len(old)])
        steps = torch.arange(config.max_atoms).clamp(max=model.config.max_atoms - 1)
        rows = {'network.graph.index.weight': steps, 'network.graph.type_embedding.weight': source,
                'network.graph.bonds.type_embedding.weight': source, 'network.placer.type_embedding.weight': source,
                'network.graph.type_head.2.weight': torch.cat([source, stop]),
                'network.graph.type_head.2.bias': torch.cat([source, stop])}
        tensors: dict[str, Tensor] = {name: tensor.detach().cpu()[rows[name]] if name in rows else tensor.detach()
                                      for name, tensor in model.state_dict().items()}
        tensors['network.graph.type_head.2.bias'][len(old):-1] -= RARER
        wide.load_state_dict(tensors)
    wide.training_domain = model.training_domain
    return wide.to(next(model.parameters()).device).train(model.training)


def _nearest(one: tuple[int, ...], known: tuple[tuple[int, ...], ...]) -> int:
    def distance(i: int) -> tuple[int, int]:
        z, *numbers = known[i]
        return sum(abs(a - b) for a, b in zip(numbers, one[1:], strict=True)), abs(z - one[0])
    return min(range(len(known)), key=distance)
