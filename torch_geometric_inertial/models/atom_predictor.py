r"""The shared core of the predictors: checks, molecules in a batch, heads, energies and forces."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torch_geometric_inertial.models.ghost_atoms import ghost_atoms
from torch_geometric_inertial.models.pretrained import Pretrained
from torch_geometric_inertial.nn.equivariant_norm import EquivariantLayerNorm
from torch_geometric_inertial.nn.image_pairs import ImagePairs
from torch_geometric_inertial.nn.packing import Packing
from torch_geometric_inertial.nn.pairs import DensePairs, EdgePairs, Pairs
from torch_geometric_inertial.ops.edges import Edges
from torch_geometric_inertial.ops.periodic_edges import FLATTEST, periodic_edges, translations
from torch_geometric_inertial.ops.radius_edges import radius_edges
from torch_geometric_inertial.ops.segment import segment_mean, segment_sum

CLOSEST = 1e-4  #: Two atoms nearer than that (Å) are an error in the data: the distance has no derivative at zero.
SCALAR_HEADS = ('sum', 'mean', 'none')
VECTOR_HEADS = ('none', 'direct', 'position', 'conservative')


@dataclass(frozen=True)
class HeadConfig:
    r"""What a predictor gives; fields of every configuration of a predictor.

    Args:
        scalar_head (str): :obj:`'sum'` over atoms (an energy), :obj:`'mean'` over atoms (a gap), or :obj:`'none'`.
        num_scalars (int): Scalars a molecule.
        vector_head (str): :obj:`'none'`; :obj:`'direct'`, one vector an atom; :obj:`'position'`, that vector added to
            the atom's position (and a learned multiple of its velocity, where there is one); or
            :obj:`'conservative'`, the negative gradient of the scalar.
        head_norm (str): Norm of the vectors before the head: :obj:`'whiten'`, :obj:`'rms'` or :obj:`'none'`. The first
            two erase magnitudes, which then come from the scalars.
        zero_net (bool): Takes the mean over the molecule off direct vectors: no net force.
    """
    scalar_head: str = 'sum'
    num_scalars: int = 1
    vector_head: str = 'none'
    head_norm: str = 'whiten'
    zero_net: bool = False

    def check_heads(self) -> None:
        if self.scalar_head not in SCALAR_HEADS:
            raise ValueError(f"'scalar_head' must be one of {', '.join(SCALAR_HEADS)} (got '{self.scalar_head}')")
        if self.vector_head not in VECTOR_HEADS:
            raise ValueError(f"'vector_head' must be one of {', '.join(VECTOR_HEADS)} (got '{self.vector_head}')")
        if self.scalar_head == self.vector_head == 'none':
            raise ValueError("one of 'scalar_head' and 'vector_head' must not be 'none'")
        if self.vector_head == 'conservative' and (self.scalar_head, self.num_scalars) != ('sum', 1):
            raise ValueError("'vector_head' can be 'conservative' only for one scalar that is a 'sum' "
                             f"(got {self.num_scalars}, '{self.scalar_head}')")
        if self.num_scalars < 1:
            raise ValueError(f"'num_scalars' must be at least 1 (got {self.num_scalars})")


class Atoms:
    r"""A batch as the networks see it.

    Attributes:
        types (Tensor): Index of the type of each atom [N].
        pos (Tensor): Positions, each molecule around its centroid [N, 3].
        center (Tensor): The centroids [B, 3].
        vel (Tensor, optional): Velocities [N, 3].
        packing (Packing): The molecules.
        ptr (Tensor): Their offsets [B + 1].
        pairs (Pairs): Which atoms see which.
        own (Tensor, optional): Where the atoms [N] stand if ghosts are among them.
        totals (list): Indices [B] of the molecules' charges and spins, as far as the model reads them.
        tags (Tensor, optional): Of the atoms [N], if the model reads them.
    """
    def __init__(self, types: Tensor, pos: Tensor, center: Tensor, vel: Tensor | None, packing: Packing, ptr: Tensor,
                 pairs: Pairs, own: Tensor | None = None, totals: Sequence[Tensor] = (), tags: Tensor | None = None):
        self.types, self.pos, self.center, self.vel = types, pos, center, vel
        self.packing, self.ptr, self.pairs, self.own, self.totals = packing, ptr, pairs, own, totals
        self.tags = tags

    def without_ghosts(self) -> Atoms:
        r"""The atoms alone, for what comes after the layers."""
        assert self.own is not None
        batch = self.batch[self.own]
        ptr = torch.searchsorted(batch, torch.arange(self.batch_size + 1, device=batch.device))
        vel, tags = (None if x is None else x[self.own] for x in (self.vel, self.tags))
        return Atoms(self.types[self.own], self.pos[self.own], self.center, vel, Packing(ptr), ptr, self.pairs,
                     tags=tags)

    @property
    def batch(self) -> Tensor:
        return self.packing.batch

    @property
    def batch_size(self) -> int:
        return self.packing.size[0]


class ScalarHead(nn.Module):
    r"""Layer norm, one hidden layer, and a sum or a mean over atoms."""
    def __init__(self, channels: int, num_scalars: int, pool: str):
        super().__init__()
        self.pool, self.norm = pool, nn.LayerNorm(channels)
        self.hidden, self.out = nn.Linear(channels, channels), nn.Linear(channels, num_scalars)

    def forward(self, s: Tensor) -> Tensor:
        return self.out(nn.functional.gelu(self.hidden(self.norm(s))))


class VectorHead(nn.Module):
    r""":math:`y_i = ((\mathrm{norm}(E_i) A) \odot \mathrm{MLP}(\mathrm{LN}(I_i)))\,b`: one vector an atom [N, 3]."""
    def __init__(self, channels: int, num_streams: int, norm: str):
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.gate = nn.Sequential(nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, channels))
        self.equ_norm = nn.ModuleList(EquivariantLayerNorm(channels, norm, eps_abs=0.1) for _ in range(num_streams))
        self.hidden = nn.ModuleList(nn.Linear(channels, channels, bias=False) for _ in range(num_streams))
        self.out = nn.Linear(channels, 1, bias=False)

    def forward(self, s: Tensor, v: list[Tensor]) -> Tensor:
        hidden = sum(hidden(norm(x)) for norm, hidden, x in zip(self.equ_norm, self.hidden, v, strict=True))
        return self.out(hidden * self.gate(self.norm(s)).unsqueeze(1)).squeeze(-1)


class AtomPredictor(Pretrained, nn.Module):
    r"""Predicts scalars of molecules and vectors of atoms. Subclasses give :meth:`encode`; everything else is here.

    Args:
        config: The model's configuration, with :obj:`elements`, :obj:`channels`, :obj:`cutoff` and the fields of
            :class:`HeadConfig`.
        num_streams (int): Vector streams that :meth:`encode` returns. (default: :obj:`1`)
        dense_size (int): Largest molecule (atoms) whose pairs are all formed; beyond, and where edges are given,
            atoms see each other along edges. (default: :obj:`0`)
    """
    config: Any
    scale: Tensor
    reference: Tensor
    offset: Tensor
    type_index: Tensor

    def __init__(self, config: Any, *, num_streams: int = 1, dense_size: int = 0):
        super().__init__()
        c = self.config = config
        self.dense_size = dense_size
        self.known_totals = {name: tuple(getattr(c, f'{name}s', ())) for name in ('charge', 'spin')}
        index = torch.full((max(c.elements) - min(c.elements) + 3, ), -1)  # one more at both ends: no element
        index[torch.tensor(c.elements) - min(c.elements) + 1] = torch.arange(len(c.elements))
        self.register_buffer('type_index', index, persistent=False)
        self.register_buffer('scale', torch.ones(()))
        self.register_buffer('vector_scale', torch.ones(()))
        self.register_buffer('reference', torch.zeros(len(c.elements), c.num_scalars, dtype=torch.float64))
        self.num_tags = getattr(c, 'num_tags', 0)
        self.tag_factor = None
        if self.num_tags and c.scalar_head != 'none':
            self.tag_factor = nn.Parameter(torch.full((self.num_tags - 1, ), 0.1))  # tens of atoms are summed
            self.register_buffer('offset', torch.zeros(c.num_scalars, dtype=torch.float64))
        self.scalar_head = None if c.scalar_head == 'none' else ScalarHead(c.channels, c.num_scalars, c.scalar_head)
        has_vectors = c.vector_head in ('direct', 'position')
        self.vector_head = VectorHead(c.channels, num_streams, c.head_norm) if has_vectors else None
        takes_velocity = getattr(c, 'velocity', 'none') != 'none'
        self.drift = nn.Parameter(torch.tensor(0.73)) if c.vector_head == 'position' and takes_velocity else None

    def encode(self, atoms: Atoms) -> tuple[Tensor, list[Tensor]]:
        r"""Scalars [N, d] and streams of vectors, each [N, 3, d]."""
        raise NotImplementedError

    def forward(self, z: Tensor, pos: Tensor, batch: Tensor | None = None, *, vel: Tensor | None = None,
                cell: Tensor | None = None, pbc: Tensor | None = None, charge: Tensor | None = None,
                spin: Tensor | None = None, tags: Tensor | None = None, edge_index: Tensor | None = None,
                edge_offset: Tensor | None = None, batch_size: int | None = None, vectors: bool | None = None,
                validate: bool = True) -> tuple[Tensor | None, Tensor | None]:
        r"""
        Args:
            z (Tensor): Atomic numbers (or other types of :obj:`config.elements`) [N], integers.
            pos (Tensor): Positions [N, 3], Å.
            batch (Tensor, optional): The molecule of each atom [N], not decreasing. One molecule if not given.
            vel (Tensor, optional): Velocities [N, 3], for models that take them.
            cell (Tensor, optional): Lattice vectors as rows, [B, 3, 3] or one cell [3, 3] for all, Å. Positions may lie
                outside of it.
            pbc (Tensor, optional): Which of them are periods, bool: [B, 3], [3 · B] as PyG strings rows together, or
                [3] for all. Atoms see all images within the cutoff; systems without a period are molecules.
            charge (Tensor, optional): Total charges [B], integers, for models that know them.
            spin (Tensor, optional): Multiplicities :math:`2 S + 1` [B], integers, for models that know them.
            tags (Tensor, optional): What each atom is part of [N], integers from 0, for models that tell them apart.
            edge_index (Tensor, optional): Pairs (j, i) [2, E], from j to i as in PyG, instead of all pairs or those
                within the cutoff. An atom always sees itself.
            edge_offset (Tensor, optional): What to add to :math:`r_j - r_i` [E, 3], such as a lattice translation.
            batch_size (int, optional): Molecules, if the last ones have no atoms or to save a look at the data.
            vectors (bool, optional): Whether to compute vectors; by default if the model has them.
            validate (bool): Looks at the values, too: refuses positions that are not finite, unknown elements, and two
                atoms in one place. Without it those give no error; two atoms in one place give finite derivatives.
                (default: :obj:`True`)

        Returns:
            Scalars [B, num_scalars] ([B] if that is 1) in float64, and vectors [N, 3]. What the model lacks is
            :obj:`None`. Conservative vectors can be differentiated again wherever gradients are enabled.

        Raises:
            ValueError: If an argument is wrong, or vectors are asked of a model without them.
        """
        inputs = dict(vel=vel, cell=cell, pbc=pbc, charge=charge, spin=spin, tags=tags, edge_index=edge_index,
                      edge_offset=edge_offset, batch_size=batch_size, validate=validate)
        if vectors and self.config.vector_head == 'none':
            raise ValueError(f"this {type(self).__name__} predicts scalars only ('vector_head' is 'none'): it has no "
                             "vectors to give")
        vectors = self.config.vector_head != 'none' if vectors is None else vectors
        if not (vectors and self.config.vector_head == 'conservative'):
            return self._predict(z, pos, batch, vectors, inputs)
        differentiable = torch.is_grad_enabled()
        with torch.enable_grad():
            pos = pos if pos.requires_grad else pos.detach().requires_grad_()
            energy, _ = self._predict(z, pos, batch, False, inputs)
            with torch.autocast(pos.device.type, enabled=False):  # derivatives take the types of the forward pass
                gradient, = torch.autograd.grad(energy.sum(), pos, create_graph=differentiable)
        return (energy, -gradient) if differentiable else (energy.detach(), -gradient)

    def stress(self, z: Tensor, pos: Tensor, batch: Tensor | None = None, *, cell: Tensor, pbc: Tensor,
               vel: Tensor | None = None, charge: Tensor | None = None, spin: Tensor | None = None,
               tags: Tensor | None = None, batch_size: int | None = None,
               validate: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        r"""Energies, forces and stresses

        .. math:: \sigma = \frac{1}{V} \frac{\partial E}{\partial \epsilon}, \qquad
            r \mapsto r (1 + \epsilon), \quad \text{cell} \mapsto \text{cell}\,(1 + \epsilon), \quad
            \epsilon = \epsilon^\top .

        Args:
            z, pos, batch, cell, pbc, vel, charge, spin, tags, batch_size, validate: Those of :meth:`forward`.

        Returns:
            Energies [B]; forces [N, 3]; and stresses [B, 3, 3], symmetric, in units of energy per Å³, zero for systems
            without a period. All can be differentiated again wherever gradients are enabled.

        Raises:
            ValueError: If the forces are not conservative, images are ghosts, or a periodic cell has no volume.
        """
        if self.config.vector_head != 'conservative':
            raise ValueError("stress is a derivative of the energy: 'vector_head' must be 'conservative' "
                             f"(got '{self.config.vector_head}')")
        if getattr(self.config, 'periodic', 'exact') != 'exact':
            raise ValueError("stress needs the energy of the infinite system: 'periodic' must be 'exact' "
                             f"(got '{self.config.periodic}')")
        differentiable = torch.is_grad_enabled()
        batch = self._check(z, pos, batch, vel, None, None, validate)
        batch_size = int(batch[-1]) + 1 if batch_size is None else batch_size
        cell, pbc = self._lattice(cell, pbc, batch_size, pos)
        volume = torch.linalg.det(cell).abs()
        periodic = pbc.any(1)
        if bool((periodic & (volume < FLATTEST ** 3)).any()):
            raise ValueError("'cell' of a periodic system must have a volume, in which the stress is "
                             f"(got {float(volume[periodic].amin()):.3g} Å³)")
        with torch.enable_grad():
            pos = pos if pos.requires_grad else pos.detach().requires_grad_()
            strain = pos.new_zeros(cell.shape, requires_grad=True)
            deformation = torch.eye(3, dtype=pos.dtype, device=pos.device) + 0.5 * (strain + strain.mT)
            strained = (pos.unsqueeze(1) @ deformation[batch]).squeeze(1)
            inputs = dict(vel=vel, cell=cell @ deformation, pbc=pbc, charge=charge, spin=spin, tags=tags,
                          batch_size=batch_size, validate=validate)
            energy, _ = self._predict(z, strained, batch, False, inputs)
            with torch.autocast(pos.device.type, enabled=False):
                gradient, virial = torch.autograd.grad(energy.sum(), [pos, strain], create_graph=differentiable)
            stress = virial / torch.where(periodic, volume, torch.inf).view(-1, 1, 1)
        return (energy, -gradient, stress) if differentiable else (energy.detach(), -gradient, stress.detach())

    def _predict(self, z: Tensor, pos: Tensor, batch: Tensor | None, vectors: bool, inputs: dict) -> tuple:
        atoms = self.prepare(z, pos, batch, **inputs)
        s, v = self.encode(atoms)
        if atoms.own is not None:
            atoms, s, v = atoms.without_ghosts(), s[atoms.own], [x[atoms.own] for x in v]
        scalars = None if self.scalar_head is None else self.pool(self.scalar_head(s), atoms)
        if not vectors or self.vector_head is None:
            return scalars, None
        y = self.vector_head(s, v).to(pos.dtype) * self.vector_scale
        if self.config.zero_net:
            y = y - segment_mean(y, atoms.ptr)[atoms.batch]
        if self.config.vector_head == 'position':
            y = y + self.carried(pos, atoms, v)
            if self.drift is not None:
                y = y + self.drift * inputs['vel']
        return scalars, y

    def carried(self, pos: Tensor, atoms: Atoms, v: list[Tensor]) -> Tensor:
        r"""The part of predicted positions that moves with the molecule [N, 3]."""
        return pos

    def pool(self, atomic: Tensor, atoms: Atoms) -> Tensor:
        r"""Sum or mean of [N, num_scalars] over each molecule, with scale and references, in float64: total energies
        have more digits than float32."""
        reference = nn.functional.embedding(atoms.types, self.reference.double())
        atomic = atomic.double() * self.scale
        if self.tag_factor is not None:
            factor = torch.cat([self.tag_factor.new_zeros(1), self.tag_factor])
            atomic = atomic * factor.double()[atoms.tags].unsqueeze(-1)
        pooled = (segment_sum if self.config.scalar_head == 'sum' else segment_mean)(atomic + reference, atoms.ptr)
        if self.tag_factor is not None:
            pooled = pooled + self.offset
        return pooled.squeeze(-1) if self.config.num_scalars == 1 else pooled

    def check_periodic(self) -> None:
        r"""
        Raises:
            ValueError: If the model cannot see periodic systems.
        """
        if self.config.cutoff is None:
            raise ValueError(f"periodic systems need a 'cutoff', which this {type(self).__name__} has not")

    @torch.compiler.disable  # its checks and sizes look at the data
    def prepare(self, z: Tensor, pos: Tensor, batch: Tensor | None = None, *, vel: Tensor | None = None,
                cell: Tensor | None = None, pbc: Tensor | None = None, charge: Tensor | None = None,
                spin: Tensor | None = None, tags: Tensor | None = None, edge_index: Tensor | None = None,
                edge_offset: Tensor | None = None, batch_size: int | None = None, validate: bool = True) -> Atoms:
        r"""Checks the arguments of :meth:`forward` and lays the atoms out."""
        batch = self._check(z, pos, batch, vel, edge_index, edge_offset, validate)
        if batch_size is None:
            batch_size = int(batch[-1]) + 1
        ptr = torch.searchsorted(batch, torch.arange(batch_size + 1, device=batch.device))
        types = self.type_index[(z.long() - (min(self.config.elements) - 1)).clamp(0, self.type_index.numel() - 1)]
        if validate and bool((types < 0).any()):
            unknown = sorted(set(z[types < 0].tolist()))
            raise ValueError(f"'z' must hold elements of {list(self.config.elements)} (got {unknown})")
        types = types.clamp(min=0)
        totals = [index for name, value in (('charge', charge), ('spin', spin))
                  if (index := self._total(name, value, batch_size, validate)) is not None]
        self._check_tags(tags, z, validate)
        center = segment_mean(pos, ptr)
        pos, own = pos - center[batch], None
        if cell is not None or pbc is not None:
            if edge_index is not None:
                raise ValueError("'edge_index' must not be given with a 'cell': give images by 'edge_offset'")
            cell, pbc = self._lattice(cell, pbc, batch_size, pos)
            if not bool(pbc.any()):
                cell = None
        if cell is not None:
            self.check_periodic()
            if getattr(self.config, 'periodic', 'exact') == 'ghost':
                ghosts = ghost_atoms(pos, ptr, batch, cell, pbc, self.config.cutoff)
                types, batch, own = types[ghosts.origin], batch[ghosts.origin], ghosts.own
                pos = pos[ghosts.origin] + translations(ghosts.shift, cell, batch)
                vel, tags = (None if x is None else x[ghosts.origin] for x in (vel, tags))
                ptr = torch.searchsorted(batch, torch.arange(batch_size + 1, device=batch.device))
                cell = None
        packing = Packing(ptr)
        if cell is not None:
            pairs = self._image_pairs(pos, types, ptr, packing, cell, pbc)
        else:
            pairs = self._pairs(pos, types, ptr, packing, edge_index, edge_offset)
        if validate:
            closest = float(pairs.closest())
            if closest < CLOSEST:
                raise ValueError(f"'pos' must not hold two atoms of one molecule closer than {CLOSEST} Å "
                                 f"(got {closest:.3g} Å)")
        return Atoms(types, pos, center, vel, packing, ptr, pairs, own, totals, tags)

    def _check_tags(self, tags: Tensor | None, z: Tensor, validate: bool) -> None:
        model, count = type(self).__name__, self.num_tags
        if (tags is not None) != (count > 0):
            raise ValueError(f"'tags' must be given: this {model} reads tags" if count else
                             f"'tags' must not be given: this {model} reads no tags")
        if tags is None:
            return
        if tags.shape != z.shape or tags.is_floating_point():
            raise ValueError(f"'tags' must be integers [{z.size(0)}] (got {list(tags.shape)}, {tags.dtype})")
        if validate and bool(((tags < 0) | (tags >= count)).any()):
            raise ValueError(f"'tags' must be of 0 to {count - 1} (got {sorted(set(tags.tolist()))})")

    def _total(self, name: str, value: Tensor | None, batch_size: int, validate: bool) -> Tensor | None:
        """Where the molecules' charges or spins stand among those that the model knows [B]."""
        known, model = self.known_totals[name], type(self).__name__
        if not known:
            if value is not None:
                raise ValueError(f"'{name}' must not be given: this {model} reads no {name}s")
            return None
        if value is None:
            raise ValueError(f"'{name}' must be given: this {model} reads {name}s")
        if value.shape != (batch_size, ) or value.is_floating_point():
            raise ValueError(f"'{name}' must be integers [{batch_size}] (got {list(value.shape)}, {value.dtype})")
        match = value.unsqueeze(1) == torch.tensor(known, device=value.device)
        if validate and not bool(match.any(1).all()):
            raise ValueError(f"'{name}' must be of {list(known)} (got {sorted(set(value[~match.any(1)].tolist()))})")
        return match.int().argmax(1)

    def _lattice(self, cell: Tensor | None, pbc: Tensor | None, batch_size: int,
                 pos: Tensor) -> tuple[Tensor, Tensor]:
        """The cells [B, 3, 3] and periods [B, 3] of all systems."""
        if cell is None or pbc is None:
            raise ValueError(f"'cell' and 'pbc' must be given together (got no '{'cell' if cell is None else 'pbc'}')")
        if cell.shape not in ((3, 3), (batch_size, 3, 3)) or not cell.is_floating_point():
            raise ValueError(f"'cell' must be floating point [{batch_size}, 3, 3] or [3, 3] "
                             f"(got {list(cell.shape)}, {cell.dtype})")
        if pbc.shape not in ((3, ), (batch_size, 3), (3 * batch_size, )) or pbc.dtype != torch.bool:
            raise ValueError(f"'pbc' must be bool [{batch_size}, 3] or [3] (got {list(pbc.shape)}, {pbc.dtype})")
        if not bool(cell.isfinite().all()):
            raise ValueError(f"'cell' must be finite (got {int((~cell.isfinite()).sum())} entries that are not)")
        return cell.to(pos.dtype).expand(batch_size, 3, 3), pbc.view(-1, 3).expand(batch_size, 3)

    def _image_pairs(self, pos: Tensor, types: Tensor, ptr: Tensor, packing: Packing, cell: Tensor,
                     pbc: Tensor) -> Pairs:
        count, cutoff = len(self.config.elements), self.config.cutoff
        row, col, shift = periodic_edges(pos, ptr, cell, pbc, cutoff)
        edges, offset = Edges(row, col, pos.size(0)), translations(shift, cell, packing.batch[row])
        if packing.size[1] <= self.dense_size:
            return ImagePairs(pos, types, count, packing, edges, cutoff, offset)
        return EdgePairs(pos, types, count, edges, cutoff, offset)

    def _pairs(self, pos: Tensor, types: Tensor, ptr: Tensor, packing: Packing, edge_index: Tensor | None,
               edge_offset: Tensor | None) -> Pairs:
        count, cutoff = len(self.config.elements), self.config.cutoff
        if edge_index is None and packing.size[1] <= self.dense_size:
            return DensePairs(pos, types, count, packing, cutoff)
        if edge_index is None:
            row, col = radius_edges(pos, ptr, cutoff) if cutoff is not None else _all_pairs(ptr, packing)
            return EdgePairs(pos, types, count, Edges(row, col, pos.size(0)), cutoff)
        own = torch.arange(pos.size(0), device=pos.device)
        col, row = edge_index.long().unbind(0)
        others = row != col if edge_offset is None else (row != col) | (edge_offset != 0).any(1)
        row, col = torch.cat([row[others], own]), torch.cat([col[others], own])
        order = (row * pos.size(0) + col).argsort(stable=True)
        if edge_offset is not None:
            edge_offset = torch.cat([edge_offset[others], edge_offset.new_zeros(own.numel(), 3)])[order]
        return EdgePairs(pos, types, count, Edges(row[order], col[order], pos.size(0)), cutoff, edge_offset)

    def _check(self, z: Tensor, pos: Tensor, batch: Tensor | None, vel: Tensor | None, edge_index: Tensor | None,
               edge_offset: Tensor | None, validate: bool) -> Tensor:
        if pos.dim() != 2 or pos.size(1) != 3 or not pos.is_floating_point():
            raise ValueError(f"'pos' must be floating point [N, 3] (got {list(pos.shape)}, {pos.dtype})")
        if z.shape != pos.shape[:1] or z.is_floating_point():
            raise ValueError(f"'z' must be integers [{pos.size(0)}] (got {list(z.shape)}, {z.dtype})")
        if pos.size(0) == 0:
            raise ValueError("there must be at least one atom (got none)")
        batch = torch.zeros_like(z, dtype=torch.int64) if batch is None else batch
        if batch.shape != z.shape or batch.dtype != torch.int64:
            raise ValueError(f"'batch' must be int64 [{pos.size(0)}] (got {list(batch.shape)}, {batch.dtype})")
        takes_velocity = getattr(self.config, 'velocity', 'none') != 'none'
        if takes_velocity and vel is None:
            raise ValueError(f"'vel' must be given: this {type(self).__name__} reads velocities")
        if vel is not None and not takes_velocity:
            raise ValueError(f"'vel' must not be given: this {type(self).__name__} reads no velocities")
        if vel is not None and vel.shape != pos.shape:
            raise ValueError(f"'vel' must be {list(pos.shape)}, like 'pos' (got {list(vel.shape)})")
        if edge_index is not None and (edge_index.dim() != 2 or edge_index.size(0) != 2
                                       or edge_index.is_floating_point()):
            raise ValueError(f"'edge_index' must be integers [2, E] (got {list(edge_index.shape)}, {edge_index.dtype})")
        if edge_offset is not None and (edge_index is None or edge_offset.shape != (edge_index.size(1), 3)):
            raise ValueError(f"'edge_offset' must be [E, 3] with an 'edge_index' [2, E] "
                             f"(got {list(edge_offset.shape)})")
        if validate:
            for name, x in (('pos', pos), ('vel', vel)):
                if x is not None and not bool(x.isfinite().all()):
                    raise ValueError(f"'{name}' must be finite (got {int((~x.isfinite()).sum())} entries that are not)")
            if bool((batch.diff() < 0).any()) or int(batch[0]) < 0:
                raise ValueError("'batch' must be sorted and not negative: the atoms of a molecule stand together "
                                 f"(got {batch.tolist() if batch.numel() < 20 else 'another order'})")
            if edge_index is not None and edge_index.numel() > 0:
                if int(edge_index.amin()) < 0 or int(edge_index.amax()) >= pos.size(0):
                    raise ValueError(f"'edge_index' must name atoms 0 to {pos.size(0) - 1} "
                                     f"(got {int(edge_index.amin())} to {int(edge_index.amax())})")
                if bool((batch[edge_index[0]] != batch[edge_index[1]]).any()):
                    raise ValueError("'edge_index' must join atoms of one molecule")
        return batch

    @torch.no_grad()
    def fit_references(self, z: Tensor, batch: Tensor, scalars: Tensor) -> AtomPredictor:
        r"""Sets the reference of each element by least squares on totals (with :obj:`scalar_head='mean'`: the mean of
        the data), and the scale to what then remains a molecule's standard deviation (a sum: over √atoms).

        Args:
            z: Atomic numbers [N].
            batch: The molecule of each atom [N].
            scalars: Targets [B] or [B, num_scalars].

        Raises:
            ValueError: If the shapes do not fit or an element is unknown.
        """
        target = scalars.double().cpu().view(scalars.size(0), -1)
        if target.size(1) != self.config.num_scalars or int(batch.max()) + 1 != target.size(0):
            raise ValueError(f"'scalars' must be [{int(batch.max()) + 1}, {self.config.num_scalars}] "
                             f"(got {list(scalars.shape)})")
        types = torch.tensor([self.config.elements.index(k) if k in self.config.elements else -1 for k in z.tolist()])
        if int(types.min()) < 0:
            raise ValueError(f"'z' must hold elements of {list(self.config.elements)} "
                             f"(got {sorted(set(z.tolist()) - set(self.config.elements))})")
        batch = batch.cpu()
        counts = torch.zeros(target.size(0), len(self.config.elements), dtype=torch.float64)
        counts.index_put_((batch, types), torch.ones(len(types), dtype=torch.float64), accumulate=True)
        size = counts.sum(1, keepdim=True)
        if self.config.scalar_head == 'mean':
            reference = target.mean(0, keepdim=True).expand(len(self.config.elements), -1)
            rest = target - target.mean(0)
        else:
            reference = torch.linalg.pinv(counts) @ target  # of least norm: one composition leaves much free
            rest = (target - counts @ reference) / size.sqrt()
        self.reference.copy_(reference)
        deviation = rest.std() if target.numel() > 1 else rest.new_zeros(())
        self.scale.fill_(float(deviation) if deviation > 0 else 1.0)
        return self

    def __repr__(self) -> str:
        total = sum(p.numel() for p in self.parameters())
        return f"{type(self).__name__}({total:,} parameters, scalar_head='{self.config.scalar_head}', " \
               f"vector_head='{self.config.vector_head}')"


def _all_pairs(ptr: Tensor, packing: Packing) -> tuple[Tensor, Tensor]:
    """Every ordered pair of each molecule, sorted."""
    own = packing.length[packing.batch]
    row = torch.repeat_interleave(own)
    first = own.cumsum(0) - own
    col = torch.arange(row.numel(), device=ptr.device) - first[row] + ptr[packing.batch[row]]
    return row, col
