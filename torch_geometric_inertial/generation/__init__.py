r"""How molecules are generated: continuous batching, requests, scaffolds, and the step of models that write atom by
atom."""
from .atom_stepper import AtomStepper, generate_molecules
from .bond_sampler import write_molecules
from .bond_scaffold import BondScaffold
from .engine import run
from .graph_stepper import GraphStepper
from .place_stepper import PlaceStepper
from .requests import GenerationRequest, SamplingConfig
from .scaffold import Scaffold

__all__ = [
    'AtomStepper',
    'BondScaffold',
    'GenerationRequest',
    'GraphStepper',
    'PlaceStepper',
    'SamplingConfig',
    'Scaffold',
    'generate_molecules',
    'run',
    'write_molecules',
]
