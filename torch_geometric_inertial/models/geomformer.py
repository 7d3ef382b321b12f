r"""GeoMFormer (Chen et al., ICML 2024, arXiv:2406.16853): invariant and equivariant quantities from two streams."""
from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from torch_geometric_inertial.models.atom_inputs import AtomInputs
from torch_geometric_inertial.models.atom_predictor import AtomPredictor
from torch_geometric_inertial.models.learned_dynamics import FASTEST, equal_steps, shrinking_steps
from torch_geometric_inertial.models.predictor_config import PredictorConfig
from torch_geometric_inertial.nn.radial_basis import GaussianBasis
from torch_geometric_inertial.nn.structural_encoding import StructuralEncoding
from torch_geometric_inertial.nn.two_stream_block import BlockConfig, TwoStreamBlock, drop_channels
from torch_geometric_inertial.nn.vector_input import VectorInput


@dataclass(frozen=True)
class GeoMFormerConfig(PredictorConfig):
    r"""Everything that defines a :class:`GeoMFormer`, beside the fields of
    :class:`~torch_geometric_inertial.models.predictor_config.PredictorConfig`.

    Fields that are not in the paper say what they gain; the presets say which model has them.

    Args:
        velocity (str): :obj:`'none'`; :obj:`'merged'`: positions and velocities in one stream of vectors (presets
            :obj:`n_body` and :obj:`n_body_direct`); :obj:`'paired'`: two networks that meet in the head, as in the
            paper (:obj:`n_body_paper`).
        heads (int): Attention heads.
        radius (tuple): Distances (Å) that the Gaussians cover.
        radial (str): :obj:`'linear'`, as in the paper, or :obj:`'log'`, which resolves close encounters
            (:obj:`n_body`); see :class:`~torch_geometric_inertial.nn.GaussianBasis`.
        equivariant_init (str): First vectors from the :obj:`'centroid'` as in the paper; or from the
            :obj:`'neighbors'`, which a cutoff makes local, as force fields and periodic systems need (:obj:`rmd17`,
            :obj:`oc20`).
        softening (float): :math:`\delta` (Å) of directions from the centroid; with 0, as in the paper, they jump there,
            and second derivatives of the energy near it grow as :math:`1 / \delta^2`.
        time_steps (int): 0, as in the paper: positions after the time that the data span come from one look at the
            first ones. Else the steps of a learned integrator: the network gives accelerations and looks again where
            each step has taken the atoms, so that it learns a law of motion and not its outcome (a second-order neural
            ODE, as SEGNO, Liu et al., ICLR 2024). Errors of training and validation then fall together
            (:obj:`n_body`, docs/geomformer.md).
        step_share (float): 0: time steps of equal length. Else each molecule has steps of its own, this share of the
            time in which its nearest particles fall together, and takes :obj:`time_steps` of them at most; see
            :func:`~torch_geometric_inertial.models.learned_dynamics.shrinking_steps`.
        type_exchange_invariant (bool): The network knows types only by whether two are equal; exchanging them changes
            nothing, as charge conjugation does not in the n-body task (:obj:`n_body`).
        node_rbf_sum (bool): Scalars start with the sum of their distances' Gaussians, too, as in Graphormer-3D. In a
            crystal of equivalent atoms nothing else knows the density (docs/geomformer.md).
        directional (bool): Values along directions between atoms, see
            :class:`~torch_geometric_inertial.nn.TwoStreamBlock`: the largest gain of all parts on the n-body task
            (:obj:`n_body`, :obj:`rmd17`; benchmarks/results/n_body_variants.jsonl).
        chiral (bool): Vector products, which tell mirror images apart; nothing else does.
        equ_norm (str): Norm of the vectors, see :class:`~torch_geometric_inertial.nn.EquivariantLayerNorm`:
            :obj:`'whiten'` is the paper's, :obj:`'rms'` that of :obj:`rmd17`, :obj:`'none'` that of :obj:`n_body`.
        dense_size (int): Largest molecule whose pairs are all formed. Beyond that, and with a cutoff, atoms see each
            other along edges, in memory linear in atoms.
        input_dropout, attention_dropout, activation_dropout, dropout (float): Of the first features, the attention
            weights, the feed-forward layers' hidden features and the residual branches.
        drop_path (float): Probability that a residual branch is left out, per molecule.
    """
    channels: int = 96
    num_kernels: int = 64
    heads: int = 8
    radius: tuple[float, float] = (0.0, 9.0)
    radial: Literal['linear', 'log'] = 'linear'
    equivariant_init: Literal['centroid', 'neighbors'] = 'centroid'
    softening: float = 0.1
    time_steps: int = 0
    step_share: float = 0.0
    type_exchange_invariant: bool = False
    node_rbf_sum: bool = False
    directional: bool = False
    chiral: bool = False
    equ_norm: Literal['whiten', 'rms', 'none'] = 'whiten'
    dense_size: int = 160
    input_dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    dropout: float = 0.0
    drop_path: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(at_least_one=('heads', ), not_negative=('softening', 'time_steps', 'step_share', 'dense_size'),
                   probability=('input_dropout', 'attention_dropout', 'activation_dropout', 'dropout', 'drop_path'))
        self.check_heads_divide(self.heads)
        low, high = self.radius
        if not 0 <= low < high or (low == 0 and self.radial == 'log'):
            raise ValueError(f"'radius' must be (low, high) with 0 <= low < high, 0 < low if radial='log' "
                             f"(got {self.radius})")
        if self.time_steps > 0 and (self.velocity == 'none' or (self.scalar_head, self.vector_head)
                                    != ('none', 'position')):
            raise ValueError("'time_steps' are for models that read velocities and give positions alone (got velocity="
                             f"'{self.velocity}', scalar_head='{self.scalar_head}', vector_head='{self.vector_head}')")
        if self.step_share > 0 and self.time_steps == 0:
            raise ValueError(f"'step_share' needs 'time_steps', the most that a molecule may take (got step_share="
                             f"{self.step_share:g}, time_steps=0)")

    def check_periodic(self) -> None:
        super().check_periodic()
        if self.time_steps > 0:
            raise ValueError(f"periodic systems need 'time_steps' to be 0 (got {self.time_steps})")
        if self.periodic == 'exact' and self.equivariant_init != 'neighbors':
            raise ValueError("periodic systems need equivariant_init='neighbors': an infinite system has no centroid "
                             f"(got '{self.equivariant_init}')")


_N_BODY = GeoMFormerConfig(elements=(-1, 1), channels=80, heads=8, num_layers=4, radius=(0.05, 8.0), radial='log',
                           velocity='merged', scalar_head='none', vector_head='position')
#: Models of named tasks. :obj:`'n_body'` integrates a learned law of motion, :obj:`'n_body_direct'` predicts in one
#: look, and :obj:`'n_body_paper'` is the paper's model of that task; :obj:`'rmd17'` is a small local model,
#: :obj:`'rmd17_paper'` the paper's; the others have the paper's sizes.
PRESETS = {
    'n_body': replace(_N_BODY, channels=32, heads=4, num_layers=1, num_kernels=24, time_steps=8,
                      type_exchange_invariant=True, directional=True, equivariant_init='neighbors', equ_norm='none',
                      head_norm='none'),
    'n_body_direct': replace(_N_BODY, type_exchange_invariant=True, directional=True),
    'n_body_paper': replace(_N_BODY, radius=(0.0, 6.0), radial='linear', velocity='paired', input_dropout=0.4,
                            attention_dropout=0.4, activation_dropout=0.4, dropout=0.4, drop_path=0.4),
    'rmd17': GeoMFormerConfig(channels=64, heads=4, num_layers=3, elements=(1, 6, 7, 8), num_kernels=32,
                              radius=(0.5, 6.0), cutoff=6.0, equivariant_init='neighbors', equ_norm='rms',
                              directional=True, vector_head='conservative'),
    'rmd17_paper': GeoMFormerConfig(channels=96, heads=8, num_layers=6, elements=(1, 6, 7, 8), radius=(0.0, 6.0),
                                    softening=0.5, vector_head='conservative'),
    'qm9': GeoMFormerConfig(channels=128, heads=8, num_layers=6, scalar_head='mean'),
    'pcqm4mv2': GeoMFormerConfig(elements=tuple(range(1, 119)), channels=512, heads=32, num_layers=8, num_kernels=128,
                                 scalar_head='mean', vector_head='position', attention_dropout=0.1, dropout=0.1),
    'molecule3d': GeoMFormerConfig(elements=tuple(range(1, 119)), channels=768, heads=48, num_layers=12,
                                   num_kernels=128, scalar_head='mean', vector_head='position', attention_dropout=0.1,
                                   dropout=0.1),
    'oc20': GeoMFormerConfig(elements=tuple(range(1, 119)), channels=768, heads=48, num_layers=12, num_kernels=128,
                             radius=(0.0, 12.0), cutoff=12.0, equivariant_init='neighbors', num_tags=3,
                             vector_head='position', attention_dropout=0.1),
}
GeoMFormerConfig.presets = PRESETS


class GeoMFormer(AtomPredictor):
    r"""A transformer whose scalars and vectors attend to themselves and to each other.

    The scalars are invariant and the vectors turn with the molecule under rotations and reflections, whatever the
    weights; so the model cannot tell mirror images apart, unless :obj:`chiral`.

    Args:
        config (GeoMFormerConfig, optional): The model; or give its fields as keywords.

    Example:
        >>> model = GeoMFormer(GeoMFormerConfig.preset('rmd17'))
        >>> energy, forces = model(data.z, data.pos, data.batch)
    """
    config_class = GeoMFormerConfig

    def __init__(self, config: GeoMFormerConfig | None = None, **kwargs):
        c = GeoMFormerConfig.of(config, kwargs)
        networks = range(2 if c.velocity == 'paired' else 1)
        super().__init__(c, num_streams=len(networks), dense_size=10**9 if c.cutoff is None else c.dense_size)
        d, num_types = c.channels, 1 if c.type_exchange_invariant else len(c.elements)
        parts = BlockConfig(d, c.heads, c.equ_norm, c.directional, c.chiral, c.attention_dropout, c.activation_dropout,
                            c.dropout, c.drop_path)
        num_pairs = 2 if c.type_exchange_invariant else len(c.elements) ** 2
        self.embedding = nn.ModuleList(nn.Embedding(num_types, d) for _ in networks)
        self.encoding = nn.ModuleList(
            StructuralEncoding(GaussianBasis(num_pairs, c.num_kernels, c.radius, c.radial), c.heads, c.directional)
            for _ in networks)
        self.node_sum = nn.ModuleList(nn.Linear(c.num_kernels, d) for _ in networks if c.node_rbf_sum)
        self.from_centroid = self.from_neighbors = self.from_velocity = None
        if c.equivariant_init == 'centroid':
            self.from_centroid = VectorInput(GaussianBasis(num_types, d, (0.0, c.radius[1])), d, c.softening)
        else:
            self.from_neighbors = nn.Linear(c.num_kernels, d, bias=False)
        if c.velocity != 'none':
            self.from_velocity = VectorInput(GaussianBasis(num_types, d, (0.0, FASTEST)), d, c.softening)
        self.blocks = nn.ModuleList(
            nn.ModuleList(TwoStreamBlock(parts) for _ in range(c.num_layers)) for _ in networks)
        if c.time_steps > 0:
            assert self.drift is not None
            nn.init.ones_(self.drift)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Linear maps keep the size of what they map; the last of each residual branch starts smaller, by
        :math:`1 / \sqrt{2 L}`."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_features))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif module is not self and hasattr(module, 'reset_parameters'):
                module.reset_parameters()
        single = [encoding.hidden for encoding in self.encoding]
        single += [x.out for x in (self.from_centroid, self.from_velocity) if x is not None]
        summed = [*self.node_sum, *([] if self.from_neighbors is None else [self.from_neighbors])]
        for linear, active in [*((x, 2) for x in single), *((x, 12) for x in summed)]:
            nn.init.normal_(linear.weight, std=1 / math.sqrt(active))  # of its Gaussians about two are not zero
        with torch.no_grad():
            for network in self.blocks:
                for block in network:
                    for out in block.outputs():
                        out.weight.mul_(1 / math.sqrt(2 * len(network)))
            for head in (self.scalar_head, self.vector_head):
                if head is not None:
                    head.out.weight.mul_(0.1)  # the first predictions are near the mean of the data

    def read_out(self, atoms: AtomInputs, vectors: bool = False) -> tuple[Tensor | None, Tensor | None]:
        if self.config.time_steps == 0:
            return super().read_out(atoms, vectors)
        return None, self._integrate(atoms) if vectors else None

    def _integrate(self, atoms: AtomInputs) -> Tensor:
        r"""Positions after the learned time :math:`T`."""
        assert self.drift is not None
        c = self.config
        if c.step_share > 0:
            pos = shrinking_steps(self._acceleration, atoms, self.drift, c.time_steps, c.step_share)
        else:
            pos = equal_steps(self._acceleration, atoms, self.drift, c.time_steps)
        return pos + atoms.center[atoms.batch]

    def _acceleration(self, atoms: AtomInputs) -> Tensor:
        assert self.vector_head is not None
        return self.vector_head(*self.encode(atoms)).to(atoms.pos.dtype) * self.vector_scale

    def encode(self, atoms: AtomInputs) -> tuple[Tensor, list[Tensor]]:
        c, types, pairs = self.config, atoms.types, atoms.pairs
        if c.type_exchange_invariant:
            count = len(c.elements)
            pairs.kind = (pairs.kind // count == pairs.kind % count).long()
            types = torch.zeros_like(types)
        encoded = [encoding(pairs) for encoding in self.encoding]
        scalars = [self.add_labels(embedding(types), atoms) for embedding in self.embedding]
        for k, node_sum in enumerate(self.node_sum):
            scalars[k] = scalars[k] + node_sum(pairs.scalar_sum(encoded[k].basis))
        vectors = self._first_vectors(atoms, types, encoded[0].basis)
        if self.training and c.input_dropout > 0:
            scalars = [drop_channels(s, c.input_dropout) for s in scalars]
            vectors = [drop_channels(v, c.input_dropout) for v in vectors]
        for k, network in enumerate(self.blocks):
            s, v = scalars[k], vectors[k]
            for block in network:  # type: ignore[attr-defined]
                s, v = block(s, v, pairs, encoded[k].bias, encoded[k].field, atoms.batch, atoms.batch_size)
            scalars[k], vectors[k] = s, v
        return sum(scalars[1:], scalars[0]), vectors

    def _first_vectors(self, atoms: AtomInputs, types: Tensor, basis: Tensor) -> list[Tensor]:
        """One stream of vectors [N, 3, d] for each network."""
        if self.from_neighbors is not None:
            first = self.from_neighbors(atoms.pairs.vector_sum(basis))
        else:
            assert self.from_centroid is not None
            first = self.from_centroid(atoms.pos, types)
        if self.from_velocity is None:
            return [first]
        second = self.from_velocity(atoms.vel, types)
        return [first, second] if self.config.velocity == 'paired' else [first + second]
