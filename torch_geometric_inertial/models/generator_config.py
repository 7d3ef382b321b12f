r"""The fields that the configurations of all generators have."""
from __future__ import annotations

from dataclasses import dataclass

from torch_geometric_inertial.elements import SYMBOLS
from torch_geometric_inertial.models.config import ModelConfig


@dataclass(frozen=True)
class GeneratorConfig(ModelConfig):
    r"""What defines the core of a generator; each has defaults of its own.

    Args:
        elements (tuple): Atomic numbers.
        max_atoms (int): Longest molecule.
        order (str): The order of atoms that the model reads and writes.
        num_groups (int): Groups of the multi-hot condition; 0 for none.
        group_names (tuple): Their names, or none.
        properties (tuple): Names of the real numbers of the condition, such as :obj:`('gap', )`.
        channels (int): Size of a token.
        heads (int): Attention heads.
        head_channels (int): Width of the diffusion head.
        head_layers (int): Residual blocks of the diffusion head.
        sigma_data (float): Standard deviation of the coordinate target, Å.
        noise_mean (float): Mean of ln σ in training.
        noise_std (float): Its standard deviation.
        num_draws (int): Noise draws per token.
        coord_weight (float): Weight of the diffusion loss in the total; the others have weight 1.
        context_noise (float): Noise (Å) on the positions that the network is told of in training; the targets stay
            clean.
        dropout (float): Of residual branches; without bonds of attention weights, too.
        condition_dropout (float): Probability that a molecule is trained with the null condition; of the others, each
            group and each property is left out with the same probability.

    Raises:
        ValueError: If a field is out of range, a name or an element comes twice, or some groups have names and others
            not.
    """
    elements: tuple[int, ...] = (1, 6, 7, 8, 9)
    max_atoms: int = 30
    order: str = 'smiles'
    num_groups: int = 0
    group_names: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()
    channels: int = 160
    heads: int = 5
    head_channels: int = 192
    head_layers: int = 3
    sigma_data: float = 0.8
    noise_mean: float = -1.6
    noise_std: float = 1.3
    num_draws: int = 4
    coord_weight: float = 1.0
    context_noise: float = 0.02
    dropout: float = 0.0
    condition_dropout: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        if not self.elements or len(set(self.elements)) != len(self.elements) or not all(
                0 < z < len(SYMBOLS) for z in self.elements):
            raise ValueError(f"'elements' must be distinct atomic numbers (got {self.elements})")
        self.check(at_least_one=('max_atoms', 'channels', 'heads', 'head_channels', 'head_layers', 'num_draws'),
                   not_negative=('num_groups', 'coord_weight', 'context_noise'), positive=('sigma_data', 'noise_std'),
                   probability=('dropout', 'condition_dropout'), distinct=('group_names', 'properties'))
        if self.group_names and len(self.group_names) != self.num_groups:
            raise ValueError(f"'group_names' must name all {self.num_groups} groups (got {len(self.group_names)})")
