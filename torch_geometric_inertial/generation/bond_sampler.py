r"""Molecules of models that write bonds: graphs, then places, in two runs of the engine one behind the other."""
from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch_geometric.data import Data

from torch_geometric_inertial.generation import engine
from torch_geometric_inertial.generation.bond_model import BondModel
from torch_geometric_inertial.generation.graph_stepper import GraphStepper
from torch_geometric_inertial.generation.place_stepper import PlaceStepper
from torch_geometric_inertial.generation.requests import GenerationRequest, SamplingConfig
from torch_geometric_inertial.generation.scaffold_graphs import choose_graphs, several_graphs


def write_molecules(model: BondModel, requests: Iterable[GenerationRequest], sampling: SamplingConfig, *,
                    seed: int = 0, batch_size: int | None = None) -> Iterator[Data]:
    r"""Answers requests, each with a number of its own, in their order. The model is in evaluation mode meanwhile.

    Args:
        model (BondModel): The model.
        requests (iterable): Any number of them; they are taken when there is room.
        sampling (SamplingConfig): How types, bonds and places are drawn.
        seed (int): A molecule is a function of it and of the request. (default: :obj:`0`)
        batch_size (int, optional): Molecules at a time, halved when memory runs out. (default: :obj:`512`, on a GPU
            :obj:`2048`)

    Returns:
        iterator: Of :class:`~torch_geometric.data.Data` with :obj:`z` [N], :obj:`pos` [N, 3] (Å), :obj:`edge_index`
        [2, E], :obj:`edge_attr` [E], :obj:`formal_charge` [N] and :obj:`finished`, on the CPU.

    Raises:
        ValueError: If :obj:`batch_size` is below 1.
    """
    if batch_size is None:
        batch_size = 2048 if model.vocabulary.z.device.type == 'cuda' else 512
    if batch_size < 1:
        raise ValueError(f"'batch_size' must be at least 1 (got {batch_size})")
    return _write(model, requests, sampling, seed, batch_size)


def _write(model: BondModel, requests: Iterable[GenerationRequest], sampling: SamplingConfig, seed: int,
           batch_size: int) -> Iterator[Data]:
    was_training = model.training
    model.train(False)
    try:
        settled = several_graphs(model, requests, sampling, seed)
        graphs = engine.run(settled, lambda _: GraphStepper(model, sampling, seed), batch_size)
        graphs = choose_graphs(model, graphs, sampling, seed)
        yield from engine.run(graphs, lambda _: PlaceStepper(model, sampling, seed), batch_size)
    finally:
        model.train(was_training)
