r"""GeoMFormer (Chen et al., ICML 2024, arXiv:2406.16853): invariant and equivariant quantities from two streams."""
from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace

import torch
from torch import Tensor, nn

from torch_geometric_inertial.models.atom_predictor import AtomPredictor, Atoms, HeadConfig
from torch_geometric_inertial.nn.equivariant_norm import KINDS
from torch_geometric_inertial.nn.radial_basis import RADIAL, GaussianBasis
from torch_geometric_inertial.nn.structural_encoding import StructuralEncoding
from torch_geometric_inertial.nn.two_stream_block import ATTENTIONS, BlockConfig, TwoStreamBlock, drop_channels
from torch_geometric_inertial.nn.vector_input import VectorInput
from torch_geometric_inertial.ops.segment import segment_mean

VELOCITY = ('none', 'merged', 'paired', 'paired_shared')
INITS = ('centroid', 'neighbours', 'both')
PERIODIC = ('exact', 'ghost')


@dataclass(frozen=True)
class GeoMFormerConfig(HeadConfig):
    r"""Everything that defines a :class:`GeoMFormer`, and the fields of
    :class:`~torch_geometric_inertial.models.atom_predictor.HeadConfig`.

    Args:
        elements (tuple): Types of atoms: atomic numbers, or charges such as :obj:`(-1, 1)`.
        channels (int): Width :math:`d` of both streams.
        heads (int): Attention heads.
        num_layers (int): Blocks :math:`L`.
        hidden_channels (int, optional): Width :math:`r` of the feed-forward layers. (default: :obj:`channels`)
        num_kernels (int): Gaussians :math:`K` of a pair's distance.
        radius (tuple): Distances (Å) that they cover.
        radial (str): :obj:`'linear'` or :obj:`'log'`, see :class:`~torch_geometric_inertial.nn.GaussianBasis`.
        normalised_kernels (bool): Gaussians with their prefactor.
        bias_shared_heads (bool): One attention bias for all heads, as the paper writes it.
        bias_per_layer (bool): The biases' last matrix is each layer's own.
        structural_encoding (bool): Whether there are such biases.
        equivariant_init (str): First vectors from the :obj:`'centroid'` as in the paper; from the
            :obj:`'neighbours'`, which a cutoff makes local; or from :obj:`'both'`.
        softening (float): :math:`\delta` (Å) of directions from the centroid; with 0, as in the paper, they jump there,
            and second derivatives of the energy near it grow as :math:`1 / \delta^2`.
        velocity (str): :obj:`'none'`; :obj:`'merged'`: positions and velocities in one stream of vectors;
            :obj:`'paired'`: two networks that meet in the head, as in the paper; :obj:`'paired_shared'`: two streams
            of vectors with one of scalars.
        time_steps (int): 0: positions after the time that the data span come from one look at the first ones. Else the
            steps of a learned integrator: the network gives accelerations and looks again where each step has taken the
            atoms, so that it learns a law of motion and not its outcome (a second-order neural ODE, as SEGNO, Liu et
            al., ICLR 2024).
        speed_range (tuple): Speeds that the Gaussians of velocities cover.
        charges (tuple): Total charges of molecules that the model tells apart, such as :obj:`(-1, 0, 1)`; without any
            it reads none.
        spins (tuple): Multiplicities :math:`2 S + 1` that it tells apart, such as :obj:`(1, 2, 3)`, likewise.
        num_tags (int): Tags of atoms that it tells apart, such as the 3 of OC20 (below the surface, surface and
            adsorbate), or 0. Scalars are then of the atoms with a tag above 0, with a factor a tag that is learned.
        conjugation (bool): The network knows types only by whether two are equal; exchanging them changes nothing.
        node_rbf_sum (bool): Scalars start with the sum of their distances' Gaussians, too.
        directional (bool): Values along directions between atoms, see
            :class:`~torch_geometric_inertial.nn.TwoStreamBlock`; not in the paper.
        chiral (bool): Vector products, which tell mirror images apart.
        positional (bool): The vectors carry positions (the paper's Appendix C.2, made non-degenerate).
        composition (str): :obj:`'parallel'` or :obj:`'sequential'` self and cross attention.
        attentions (tuple): Those of the four that there are.
        inv_norm (bool): Layer norm of the scalars.
        equ_norm (str): Norm of the vectors, see :class:`~torch_geometric_inertial.nn.EquivariantLayerNorm`.
        eps_rel (float): Its :math:`\epsilon_\mathrm{rel}`.
        eps_abs (float): Its :math:`\epsilon_\mathrm{abs}`. Where symmetry makes an atom's vectors vanish (the carbon of
            methane) each norm magnifies displacements by :math:`1 / \sqrt{\epsilon_\mathrm{abs}}`, and layers multiply:
            with 1e-8 the second derivatives of six random layers reach 1e46, with 0.1 a hundred.
        cutoff (float, optional): Largest distance (Å) that atoms see each other at; attention fades out smoothly.
        periodic (str): Periodic systems, which need a cutoff, are seen as they are, :obj:`'exact'`: attention runs over
            all images, and features are those of the infinite system; first vectors then come from the neighbours. Or
            images within the cutoff of an atom become atoms with features of their own, :obj:`'ghost'`, as in
            Graphormer-3D: energies then depend on which images are in the cell.
        dense_size (int): Largest molecule whose pairs are all formed. Beyond that, and with a cutoff, atoms see each
            other along edges, in memory linear in atoms.
        input_dropout, attention_dropout, activation_dropout, dropout (float): Of the first features, the attention
            weights, the feed-forward layers' hidden features and the residual branches.
        drop_path (float): Share of molecules for which a residual branch is left out.
    """
    elements: tuple[int, ...] = (1, 6, 7, 8, 9)
    channels: int = 96
    heads: int = 8
    num_layers: int = 6
    hidden_channels: int | None = None
    num_kernels: int = 64
    radius: tuple[float, float] = (0.0, 9.0)
    radial: str = 'linear'
    normalised_kernels: bool = False
    bias_shared_heads: bool = False
    bias_per_layer: bool = False
    structural_encoding: bool = True
    equivariant_init: str = 'centroid'
    softening: float = 0.1
    velocity: str = 'none'
    time_steps: int = 0
    speed_range: tuple[float, float] = (0.0, 4.0)
    charges: tuple[int, ...] = ()
    spins: tuple[int, ...] = ()
    num_tags: int = 0
    conjugation: bool = False
    node_rbf_sum: bool = False
    directional: bool = False
    chiral: bool = False
    positional: bool = False
    composition: str = 'parallel'
    attentions: tuple[str, ...] = ATTENTIONS
    inv_norm: bool = True
    equ_norm: str = 'whiten'
    eps_rel: float = 1e-3
    eps_abs: float = 0.1
    cutoff: float | None = None
    periodic: str = 'exact'
    dense_size: int = 160
    input_dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    dropout: float = 0.0
    drop_path: float = 0.0

    def __post_init__(self):
        for name in ('elements', 'radius', 'speed_range', 'attentions', 'charges', 'spins'):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # lists, as JSON has them
        if not self.elements or len(set(self.elements)) != len(self.elements):
            raise ValueError(f"'elements' must be distinct integers (got {self.elements})")
        for name in ('charges', 'spins'):
            if len(set(getattr(self, name))) != len(getattr(self, name)):
                raise ValueError(f"'{name}' must be distinct integers (got {getattr(self, name)})")
        if any(spin < 1 for spin in self.spins):
            raise ValueError(f"'spins' are multiplicities 2 S + 1, which are at least 1 (got {self.spins})")
        if self.num_tags < 0 or self.num_tags == 1:
            raise ValueError(f"'num_tags' must be 0 or at least 2 (got {self.num_tags})")
        for name in ('channels', 'heads', 'num_layers', 'num_kernels'):
            if getattr(self, name) < 1:
                raise ValueError(f"'{name}' must be at least 1 (got {getattr(self, name)})")
        if self.channels % self.heads:
            raise ValueError(f"'channels' must be a multiple of heads = {self.heads} (got {self.channels})")
        if self.hidden_channels is not None and self.hidden_channels < 1:
            raise ValueError(f"'hidden_channels' must be at least 1 (got {self.hidden_channels})")
        for name, choices in (('radial', RADIAL), ('equivariant_init', INITS), ('velocity', VELOCITY),
                              ('composition', ('parallel', 'sequential')), ('equ_norm', KINDS), ('head_norm', KINDS),
                              ('periodic', PERIODIC)):
            if getattr(self, name) not in choices:
                raise ValueError(f"'{name}' must be one of {', '.join(choices)} (got '{getattr(self, name)}')")
        if not set(self.attentions) <= set(ATTENTIONS):
            raise ValueError(f"'attentions' must be of {', '.join(ATTENTIONS)} (got {self.attentions})")
        for name in ('input_dropout', 'attention_dropout', 'activation_dropout', 'dropout', 'drop_path'):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"'{name}' must be in [0, 1) (got {getattr(self, name)})")
        if not self.softening >= 0:
            raise ValueError(f"'softening' must not be negative (got {self.softening})")
        if self.cutoff is not None and not 0 < self.cutoff < math.inf:
            raise ValueError(f"'cutoff' must be positive and finite, or None (got {self.cutoff})")
        if self.positional and self.velocity != 'none':
            raise ValueError("'positional' vectors carry positions alone: 'velocity' must be 'none' "
                             f"(got '{self.velocity}')")
        if self.time_steps < 0:
            raise ValueError(f"'time_steps' must not be negative (got {self.time_steps})")
        if self.time_steps > 0 and (self.velocity == 'none' or (self.scalar_head, self.vector_head)
                                    != ('none', 'position')):
            raise ValueError("'time_steps' are for models that read velocities and give positions alone (got velocity="
                             f"'{self.velocity}', scalar_head='{self.scalar_head}', vector_head='{self.vector_head}')")
        self.check_heads()

    @classmethod
    def preset(cls, name: str, **changes) -> GeoMFormerConfig:
        r"""A named task's model, with :obj:`changes` to its fields. :obj:`'n_body'` integrates a learned law of motion,
        :obj:`'n_body_direct'` predicts in one look, and :obj:`'n_body_paper'` is the paper's model of that task;
        :obj:`'rmd17'` is a small local model, :obj:`'rmd17_paper'` the paper's; the others have the paper's sizes.

        Raises:
            ValueError: If there is no preset of that name.
        """
        if name not in PRESETS:
            raise ValueError(f"'preset' must be one of {', '.join(PRESETS)} (got '{name}')")
        return replace(PRESETS[name], **changes)

    def to_dict(self) -> dict:
        return asdict(self)


_N_BODY = GeoMFormerConfig(elements=(-1, 1), channels=80, heads=8, num_layers=4, radius=(0.05, 8.0), radial='log',
                           velocity='merged', scalar_head='none', vector_head='position')
PRESETS = {
    'n_body': replace(_N_BODY, channels=32, heads=4, num_layers=1, num_kernels=24, time_steps=8, conjugation=True,
                      directional=True, equivariant_init='neighbours', equ_norm='none', head_norm='none'),
    'n_body_direct': replace(_N_BODY, conjugation=True, directional=True),
    'n_body_paper': replace(_N_BODY, radius=(0.0, 6.0), radial='linear', velocity='paired', input_dropout=0.4,
                            attention_dropout=0.4, activation_dropout=0.4, dropout=0.4, drop_path=0.4),
    'rmd17': GeoMFormerConfig(channels=64, heads=4, num_layers=3, elements=(1, 6, 7, 8), num_kernels=32,
                              radius=(0.5, 6.0), cutoff=6.0, equivariant_init='neighbours', equ_norm='rms',
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
                             radius=(0.0, 12.0), cutoff=12.0, equivariant_init='neighbours', num_tags=3,
                             vector_head='position', attention_dropout=0.1),
}


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
        if config is not None and kwargs:
            raise ValueError(f"give 'config' or its fields, not both (got {sorted(kwargs)})")
        unknown = set(kwargs) - {f.name for f in fields(GeoMFormerConfig)}
        if unknown:
            raise ValueError(f"'{sorted(unknown)[0]}' is not a field of GeoMFormerConfig")
        c = GeoMFormerConfig(**kwargs) if config is None else config
        num_streams = 2 if c.velocity.startswith('paired') else 1
        super().__init__(c, num_streams=num_streams, dense_size=10**9 if c.cutoff is None else c.dense_size)
        self.num_networks = 2 if c.velocity == 'paired' else 1
        own_streams = num_streams // self.num_networks
        d, num_types = c.channels, 1 if c.conjugation else len(c.elements)
        parts = BlockConfig(
            d, c.heads, d if c.hidden_channels is None else c.hidden_channels, own_streams, c.attentions,
            c.composition, c.inv_norm, c.equ_norm, c.eps_rel, c.eps_abs, not c.positional, c.directional, c.chiral,
            c.attention_dropout, c.activation_dropout, c.dropout, c.drop_path)

        def pair_basis() -> GaussianBasis:
            num_pairs = 2 if c.conjugation else len(c.elements) ** 2
            return GaussianBasis(num_pairs, c.num_kernels, c.radius, c.radial, c.normalised_kernels)

        networks = range(self.num_networks)
        self.embedding = nn.ModuleList(nn.Embedding(num_types, d) for _ in networks)
        self.totals = nn.ModuleList(nn.Embedding(len(known), d) for known in (c.charges, c.spins) if known)
        self.tag_embedding = nn.Embedding(c.num_tags, d) if c.num_tags else None
        self.encoding = nn.ModuleList(
            StructuralEncoding(pair_basis(), c.heads, 2 + 2 * own_streams,
                               c.num_layers if c.bias_per_layer else 1, c.bias_shared_heads, c.directional,
                               c.structural_encoding)
            for _ in networks)
        self.node_sum = nn.ModuleList(nn.Linear(c.num_kernels, d) for _ in networks if c.node_rbf_sum)
        self.from_centroid = self.from_neighbours = self.from_velocity = None
        if not c.positional and c.equivariant_init in ('centroid', 'both'):
            basis = GaussianBasis(num_types, d, (0.0, c.radius[1]), normalised=c.normalised_kernels)
            self.from_centroid = VectorInput(basis, d, c.softening)
        if not c.positional and c.equivariant_init in ('neighbours', 'both'):
            self.from_neighbours = nn.Linear(c.num_kernels, d, bias=False)
        if c.velocity != 'none':
            self.from_velocity = VectorInput(GaussianBasis(num_types, d, c.speed_range), d, c.softening)
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
        summed = [*self.node_sum, *([] if self.from_neighbours is None else [self.from_neighbours])]
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

    def _predict(self, z: Tensor, pos: Tensor, batch: Tensor | None, vectors: bool, inputs: dict) -> tuple:
        if self.config.time_steps == 0:
            return super()._predict(z, pos, batch, vectors, inputs)
        return None, self._integrate(self.prepare(z, pos, batch, **inputs), inputs) if vectors else None

    def _integrate(self, atoms: Atoms, inputs: dict) -> Tensor:
        r"""Positions after the learned time :math:`T`, in steps :math:`h = T / n`: half a drift, a kick by
        accelerations that are fresh, half a drift; of second order where they do not depend on the velocity.
        A kick stays below the greatest speed of :obj:`speed_range`: a wrong one would throw an atom out of the data."""
        assert self.vector_head is not None and self.drift is not None and atoms.vel is not None
        step = self.drift / self.config.time_steps
        pos, vel, fastest = atoms.pos, atoms.vel, self.config.speed_range[1]
        for _ in range(self.config.time_steps):
            pos = pos + 0.5 * step * vel
            pairs = self._pairs(pos, atoms.types, atoms.ptr, atoms.packing, inputs['edge_index'], inputs['edge_offset'])
            there = Atoms(atoms.types, pos, atoms.center, vel, atoms.packing, atoms.ptr, pairs, totals=atoms.totals)
            acceleration = self.vector_head(*self.encode(there)).to(pos.dtype) * self.vector_scale
            kick = step * acceleration
            vel = vel + kick / (1 + kick.square().sum(-1, keepdim=True) / fastest ** 2).sqrt()
            pos = pos + 0.5 * step * vel
        return pos + atoms.center[atoms.batch]

    def check_periodic(self) -> None:
        super().check_periodic()
        c = self.config
        if c.time_steps > 0:
            raise ValueError(f"periodic systems need 'time_steps' to be 0 (got {c.time_steps})")
        if c.positional:
            raise ValueError("periodic systems need 'positional' to be False: an infinite system has no centroid")
        if c.periodic == 'exact' and c.equivariant_init != 'neighbours':
            raise ValueError("periodic systems need equivariant_init='neighbours': an infinite system has no centroid "
                             f"(got '{c.equivariant_init}')")

    def encode(self, atoms: Atoms) -> tuple[Tensor, list[Tensor]]:
        c, types, pairs = self.config, atoms.types, atoms.pairs
        if c.conjugation:
            count = len(c.elements)
            pairs.kind = (pairs.kind // count == pairs.kind % count).long()
            types = torch.zeros_like(types)
        encoded = [encoding(pairs) for encoding in self.encoding]
        scalars = [embedding(types) for embedding in self.embedding]
        for embedding, index in zip(self.totals, atoms.totals, strict=True):
            scalars = [s + embedding(index)[atoms.batch] for s in scalars]
        if self.tag_embedding is not None:
            scalars = [s + self.tag_embedding(atoms.tags) for s in scalars]
        for k, node_sum in enumerate(self.node_sum):
            scalars[k] = scalars[k] + node_sum(pairs.scalar_sum(encoded[k].basis))
        vectors = self._first_vectors(atoms, types, encoded[0].basis)
        if self.training and c.input_dropout > 0:
            scalars = [drop_channels(s, c.input_dropout) for s in scalars]
            vectors = [drop_channels(v, c.input_dropout) for v in vectors]
        demean = None
        if c.positional:
            def demean(v: Tensor) -> Tensor:
                return v - segment_mean(v, atoms.ptr)[atoms.batch]
        out: list[Tensor] = []
        for k, network in enumerate(self.blocks):
            s, v = scalars[k], [vectors[k]] if self.num_networks == 2 else vectors
            for layer, block in enumerate(network):  # type: ignore[var-annotated]
                bias = encoded[k].bias[layer if c.bias_per_layer and c.structural_encoding else 0]
                s, v = block(s, v, pairs, bias, encoded[k].field, atoms.batch, atoms.batch_size, demean)
            scalars[k] = s
            out += v
        return sum(scalars[1:], scalars[0]), out

    def _first_vectors(self, atoms: Atoms, types: Tensor, basis: Tensor) -> list[Tensor]:
        c = self.config
        if c.positional:
            pos = atoms.pos + atoms.center[atoms.batch]
            return [pos.unsqueeze(-1).expand(-1, -1, c.channels)]
        sources = []
        if self.from_centroid is not None:
            sources.append(self.from_centroid(atoms.pos, types))
        if self.from_neighbours is not None:
            sources.append(self.from_neighbours(atoms.pairs.vector_sum(basis)))
        vectors = [sum(sources)]
        if self.from_velocity is not None:
            vectors.append(self.from_velocity(atoms.vel, types))
        return [sum(vectors)] if c.velocity == 'merged' else vectors

    def carried(self, pos: Tensor, atoms: Atoms, v: list[Tensor]) -> Tensor:
        return v[0].mean(-1) if self.config.positional else pos
