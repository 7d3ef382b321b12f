r"""The fields that the configurations of all predictors have."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch_geometric_inertial.models.config import ModelConfig


@dataclass(frozen=True)
class PredictorConfig(ModelConfig):
    r"""What defines the inputs, the size and the outputs of a predictor; each has defaults of its own.

    Args:
        elements (tuple): Types of atoms: atomic numbers, or charges such as :obj:`(-1, 1)`.
        channels (int): Width of scalars and vectors.
        num_layers (int): Layers.
        num_kernels (int): Radial functions of a distance.
        cutoff (float, optional): Largest distance (Å) of two atoms that see each other.
        scalar_head (str): :obj:`'sum'` over atoms (an energy), :obj:`'mean'` over atoms (a gap), or :obj:`'none'`.
        num_scalars (int): Scalars per molecule.
        vector_head (str): :obj:`'none'`; :obj:`'direct'`, one vector per atom; :obj:`'position'`, that vector added to
            the atom's position (and a learned multiple of its velocity, where there is one); or
            :obj:`'conservative'`, the negative gradient of the scalar.
        head_norm (str): Norm of the vectors before the head: :obj:`'whiten'`, :obj:`'rms'` or :obj:`'none'`. The first
            two erase magnitudes, which then come from the scalars.
        velocity (str): Whether and how the model reads velocities; :obj:`'none'` if it does not.
        periodic (str): Periodic systems, which need a cutoff, are seen as they are, :obj:`'exact'`: atoms see all
            images, and features are those of the infinite system. Or images within the cutoff of an atom become atoms
            with features of their own, :obj:`'ghost'`, as in Graphormer-3D: energies then depend on which images are
            in the cell.
        charges (tuple): Total charges of molecules that the model tells apart, such as :obj:`(-1, 0, 1)`; without any
            it reads none.
        spins (tuple): Multiplicities :math:`2 S + 1` that it tells apart, such as :obj:`(1, 2, 3)`, likewise.
        num_tags (int): Tags of atoms that it tells apart, such as the 3 of OC20 (below the surface, surface and
            adsorbate), or 0. Scalars are then of the atoms with a tag above 0, with one learned factor per tag.

    Raises:
        ValueError: If a field is out of range, or two do not fit.
    """
    elements: tuple[int, ...] = (1, 6, 7, 8, 9)
    channels: int = 128
    num_layers: int = 6
    num_kernels: int = 32
    cutoff: float | None = None
    scalar_head: Literal['sum', 'mean', 'none'] = 'sum'
    num_scalars: int = 1
    vector_head: Literal['none', 'direct', 'position', 'conservative'] = 'none'
    head_norm: Literal['whiten', 'rms', 'none'] = 'whiten'
    velocity: Literal['none', 'merged', 'paired'] = 'none'
    periodic: Literal['exact', 'ghost'] = 'exact'
    charges: tuple[int, ...] = ()
    spins: tuple[int, ...] = ()
    num_tags: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(at_least_one=('channels', 'num_layers', 'num_kernels', 'num_scalars'), positive=('cutoff', ),
                   distinct=('elements', 'charges', 'spins'))
        if not self.elements:
            raise ValueError("'elements' must hold at least one type of atoms (got ())")
        if any(spin < 1 for spin in self.spins):
            raise ValueError(f"'spins' are multiplicities 2 S + 1, which are at least 1 (got {self.spins})")
        if self.num_tags < 0 or self.num_tags == 1:
            raise ValueError(f"'num_tags' must be 0 or at least 2 (got {self.num_tags})")
        if self.scalar_head == self.vector_head == 'none':
            raise ValueError("one of 'scalar_head' and 'vector_head' must not be 'none'")
        if self.vector_head == 'conservative' and (self.scalar_head, self.num_scalars) != ('sum', 1):
            raise ValueError("'vector_head' can be 'conservative' only for one scalar that is a 'sum' "
                             f"(got {self.num_scalars}, '{self.scalar_head}')")

    @property
    def known_totals(self) -> dict[str, tuple[int, ...]]:
        r"""What is known of a molecule as a whole, by the name of the argument."""
        return dict(charge=self.charges, spin=self.spins)

    def check_heads_divide(self, heads: int) -> None:
        r"""
        Raises:
            ValueError: If that many attention heads do not divide the channels.
        """
        if self.channels % heads:
            raise ValueError(f"'channels' must be a multiple of heads = {heads} (got {self.channels})")

    def check_periodic(self) -> None:
        r"""
        Raises:
            ValueError: If the model cannot see periodic systems.
        """
        if self.cutoff is None:
            raise ValueError("periodic systems need a 'cutoff' (this model has none)")
