r"""How molecules are generated: continuous batching, requests, scaffolds, and the step of models that write atom by
atom."""
from .atom_stepper import AtomStepper, generate_molecules
from .engine import run
from .requests import GenerationRequest, SamplingConfig
from .scaffold import Scaffold

__all__ = [
    'AtomStepper',
    'GenerationRequest',
    'SamplingConfig',
    'Scaffold',
    'generate_molecules',
    'run',
]
