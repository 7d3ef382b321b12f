r"""A molecule with the way that each of its atoms took."""
from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.generation import SamplingConfig
from torch_geometric_inertial.generation.plain import generate_plainly, write_plainly
from torch_geometric_inertial.models.autoregressor import AtomAutoregressor
from torch_geometric_inertial.models.generator_input import check_precision


class WrittenPaths(NamedTuple):
    r"""What :func:`written_paths` gives.

    Attributes:
        molecule (Data): As :meth:`~torch_geometric_inertial.models.AtomAutoregressor.generate` gives it.
        paths (list): Of each atom [S, 3] in Å: where it is at each evaluation of the flow, and its place at last. The
            first atom of a model that writes bonds is the origin, and has its place alone.
    """
    molecule: Data
    paths: list[Tensor]


def written_paths(model: AtomAutoregressor, index: int = 0, seed: int = 0, **sampling) -> WrittenPaths:
    r"""Molecule :obj:`index` of :meth:`~torch_geometric_inertial.models.AtomAutoregressor.generate`, and the way of
    each of its atoms from noise to its place along the probability-flow ODE.

    Args:
        model (AtomAutoregressor): The generator.
        index (int): Number of the molecule.
        seed (int): Of all molecules.
        **sampling: :obj:`temperature`, :obj:`place_temperature`, :obj:`top_p`, :obj:`num_steps`, :obj:`solver`.

    Raises:
        ValueError: If an argument is out of range, or the model is not on the CPU or in a precision too low.
    """
    device = next(model.parameters()).device
    if device.type != 'cpu':
        raise ValueError(f"'model' must be on the CPU, where one molecule is written (got {device})")
    check_precision(model, model.writes_bonds)
    if index < 0:
        raise ValueError(f"'index' must be at least 0 (got {index})")
    config = SamplingConfig(**{name: value for name, value in sampling.items() if value is not None})
    paths: list[Tensor] = []
    training = model.training
    model.eval()
    try:
        write = write_plainly if model.writes_bonds else generate_plainly
        return WrittenPaths(write(model.network, index, seed, sampling=config, paths=paths), paths)
    finally:
        model.train(training)
