r"""What a user asks for: one molecule, and how it is drawn."""
from __future__ import annotations

import math
import numbers
from dataclasses import dataclass

from torch import Tensor

from torch_geometric_inertial.generation.bond_scaffold import BondScaffold
from torch_geometric_inertial.generation.scaffold import Scaffold
from torch_geometric_inertial.nn.diffusion_head import NUM_STEPS
from torch_geometric_inertial.nn.flow_solvers import check_steps


@dataclass(frozen=True)
class GenerationRequest:
    r"""One molecule that is asked for.

    Args:
        index (int): Its number; with the seed it settles all random numbers.
        max_atoms (int): Where it is cut short.
        conditions (dict, optional): Its conditions, by name, without a batch dimension.
        scaffold (Scaffold or BondScaffold, optional): Atoms that it must contain, as the model takes them.
        allowed (Tensor, optional): Which types may be drawn [V]; all if :obj:`None`.
    """
    index: int
    max_atoms: int
    conditions: dict[str, Tensor] | None = None
    scaffold: Scaffold | BondScaffold | None = None
    allowed: Tensor | None = None


@dataclass(frozen=True)
class SamplingConfig:
    r"""How types, bonds and places are drawn.

    Args:
        temperature (float): Of the types and bonds; 0 takes the most likely. (default: :obj:`1.0`)
        place_temperature (float): Scale of the noise that places are made of: 0 puts each atom where the flow takes the
            middle of the noise, near the mode of its density. (default: :obj:`1.0`)
        top_p (float): Types are drawn from the smallest set of at least this probability. (default: :obj:`1.0`)
        num_steps (int): Evaluations of the diffusion head per atom. (default: :obj:`12`)
        solver (str): Of :data:`~torch_geometric_inertial.nn.flow_solvers.SOLVERS`. (default: :obj:`'dpmpp'`)
        guidance_scale (float): :math:`w` in :math:`\emptyset + w (c - \emptyset)`, for the logits of types and
            bonds and for the denoised place: 0 is unconditional, 1 conditional, more is further that way.
            (default: :obj:`1.0`)
        valence_mask (bool): Whether models that write bonds are kept from bonds that no valence is left for, and from
            an end while one is. (default: :obj:`False`)

    Raises:
        ValueError: On values out of range.
    """
    temperature: float = 1.0
    place_temperature: float = 1.0
    top_p: float = 1.0
    num_steps: int = NUM_STEPS
    solver: str = 'dpmpp'
    guidance_scale: float = 1.0
    valence_mask: bool = False

    def __post_init__(self):
        for name in ('temperature', 'place_temperature', 'top_p', 'guidance_scale'):
            value = getattr(self, name)
            if not isinstance(value, numbers.Real) or isinstance(value, bool):
                raise ValueError(f"'{name}' must be a number (got {value!r})")
        for name in ('temperature', 'place_temperature'):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"'{name}' must not be negative (got {getattr(self, name)})")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"'top_p' must be in (0, 1] (got {self.top_p})")
        if not math.isfinite(self.guidance_scale):
            raise ValueError(f"'guidance_scale' must be finite (got {self.guidance_scale})")
        check_steps(self.solver, self.num_steps)

    @property
    def branches(self) -> int:
        r"""Passes per molecule: 2 where conditional and unconditional ones are mixed."""
        return 1 if self.guidance_scale in (0, 1) else 2
