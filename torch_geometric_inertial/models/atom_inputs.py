r"""A batch of atoms as the networks of the predictors see it, and the way there from a user's arguments."""
from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from torch_geometric_inertial.elements import MIN_DISTANCE
from torch_geometric_inertial.models.ghost_atoms import ghost_atoms
from torch_geometric_inertial.models.input_checks import (
    check_extent,
    check_lattice,
    check_like_model,
    check_shapes,
    check_tags,
    check_values,
    check_velocity,
    index_of_total,
)
from torch_geometric_inertial.models.predictor_config import PredictorConfig
from torch_geometric_inertial.neighbors.edges import Edges
from torch_geometric_inertial.neighbors.neighbor_list import neighbor_list
from torch_geometric_inertial.neighbors.periodic import periodic_neighbor_list, translations
from torch_geometric_inertial.nn.image_pair_attention import ImagePairAttention
from torch_geometric_inertial.nn.packing import Packing
from torch_geometric_inertial.nn.pair_attention import DensePairAttention, EdgePairAttention, PairAttention
from torch_geometric_inertial.ops.segment import segment_mean

SAME_PLACE = 1e-4  #: Particles that are no atoms may be near each other, but a distance has no derivative at zero.


@dataclass(frozen=True)
class PairLayout:
    r"""How the pairs of a batch are formed: all of them, those within a cutoff, given ones, or those of a lattice.

    Args:
        num_types (int): Types of atoms.
        cutoff (float, optional): Largest distance of two atoms that see each other, Å.
        dense_size (int): Largest molecule whose pairs are all formed.
        edge_index (Tensor, optional): Given pairs (j, i) [2, E].
        edge_offset (Tensor, optional): What to add to :math:`r_j - r_i` [E, 3].
        cell (Tensor, optional): Lattice vectors [B, 3, 3].
        pbc (Tensor, optional): Which of them are periods [B, 3].
    """
    num_types: int
    cutoff: float | None
    dense_size: int
    edge_index: Tensor | None = None
    edge_offset: Tensor | None = None
    cell: Tensor | None = None
    pbc: Tensor | None = None

    def pairs(self, pos: Tensor, types: Tensor, packing: Packing) -> PairAttention:
        r"""The pairs of atoms at these positions [N, 3]."""
        dense = packing.size[1] <= self.dense_size
        if self.cell is not None:
            assert self.pbc is not None and self.cutoff is not None
            row, col, shift = periodic_neighbor_list(pos, packing.ptr, self.cell, self.pbc, self.cutoff)
            edges, offset = Edges(row, col, pos.size(0)), translations(shift, self.cell, packing.batch[row])
            if dense:
                return ImagePairAttention(pos, types, self.num_types, packing, edges, self.cutoff, offset)
            return EdgePairAttention(pos, types, self.num_types, edges, self.cutoff, offset)
        if self.edge_index is None and dense:
            return DensePairAttention(pos, types, self.num_types, packing, self.cutoff)
        if self.edge_index is not None:
            row, col, given = _with_own(self.edge_index, self.edge_offset, pos.size(0))
            return EdgePairAttention(pos, types, self.num_types, Edges(row, col, pos.size(0)), self.cutoff, given)
        row, col = _all_pairs(packing) if self.cutoff is None else neighbor_list(pos, packing.ptr, self.cutoff)
        return EdgePairAttention(pos, types, self.num_types, Edges(row, col, pos.size(0)), self.cutoff)

    def subset(self, keep: Tensor) -> PairLayout:
        r"""Of the atoms of a mask [N], which holds whole molecules."""
        if self.edge_index is None:
            return self
        kept = keep[self.edge_index[0].long()]
        edge_index = (keep.long().cumsum(0) - 1)[self.edge_index[:, kept].long()]
        return replace(self, edge_index=edge_index,
                       edge_offset=None if self.edge_offset is None else self.edge_offset[kept])


@dataclass
class AtomInputs:
    r"""A batch as the networks see it.

    Attributes:
        types (Tensor): Index of the type of each atom [N].
        pos (Tensor): Positions, each molecule around its centroid [N, 3].
        center (Tensor): The centroids [B, 3].
        packing (Packing): The molecules.
        layout (PairLayout): How their pairs are formed.
        pairs (PairAttention): Which atoms see which.
        vel (Tensor, optional): Velocities [N, 3].
        own (Tensor, optional): Where the atoms [N] stand if ghosts are among them.
        totals (tuple): Indices [B] of the molecules' charges and spins, as far as the model reads them.
        tags (Tensor, optional): Of the atoms [N], if the model reads them.
    """
    types: Tensor
    pos: Tensor
    center: Tensor
    packing: Packing
    layout: PairLayout
    pairs: PairAttention
    vel: Tensor | None = None
    own: Tensor | None = None
    totals: tuple[Tensor, ...] = ()
    tags: Tensor | None = None

    @property
    def batch(self) -> Tensor:
        r"""The molecule of each atom [N]."""
        return self.packing.batch

    @property
    def batch_size(self) -> int:
        return self.packing.size[0]

    @property
    def ptr(self) -> Tensor:
        r"""The offsets of the molecules [B + 1]."""
        return self.packing.ptr

    def moved(self, pos: Tensor, vel: Tensor | None) -> AtomInputs:
        r"""The same atoms elsewhere; :obj:`pos` around the centroids of before."""
        return replace(self, pos=pos, vel=vel, pairs=self.layout.pairs(pos, self.types, self.packing))

    def subset(self, molecules: Tensor) -> AtomInputs:
        r"""The atoms of some of the molecules, given by a mask [B]; of systems without ghosts and without a lattice."""
        assert self.own is None and self.layout.cell is None
        keep = molecules[self.batch]
        vel, tags = (None if x is None else x[keep] for x in (self.vel, self.tags))
        length = self.packing.length[molecules]
        packing = Packing(torch.cat([length.new_zeros(1), length.cumsum(0)]))
        layout = self.layout.subset(keep)
        types, pos = self.types[keep], self.pos[keep]
        return AtomInputs(types, pos, self.center[molecules], packing, layout, layout.pairs(pos, types, packing), vel,
                          None, tuple(index[molecules] for index in self.totals), tags)

    def without_ghosts(self) -> AtomInputs:
        r"""The atoms alone, for what comes after the layers."""
        if self.own is None:
            return self
        vel, tags = (None if x is None else x[self.own] for x in (self.vel, self.tags))
        packing = Packing(_offsets(self.batch[self.own], self.batch_size))
        return replace(self, types=self.types[self.own], pos=self.pos[self.own], packing=packing, vel=vel, tags=tags,
                       own=None)


class AtomReader(nn.Module):
    r"""Checks the arguments of a predictor's :meth:`forward` and lays the atoms out.

    Args:
        config (PredictorConfig): What the model knows.
        dense_size (int): Largest molecule whose pairs are all formed.
        model (str): Its name, for messages.
    """
    type_index: Tensor

    def __init__(self, config: PredictorConfig, dense_size: int, model: str):
        super().__init__()
        self.config, self.dense_size, self.model = config, dense_size, model
        self.first = min(config.elements) - 1  # one more at both ends: no element
        index = torch.full((max(config.elements) - self.first + 2, ), -1)
        index[torch.tensor(config.elements) - self.first] = torch.arange(len(config.elements))
        self.register_buffer('type_index', index, persistent=False)

    def types_of(self, z: Tensor, validate: bool = True) -> Tensor:
        r"""Where elements stand among those of the model [N].

        Raises:
            ValueError: If the model does not know one.
        """
        types = self.type_index[(z.long() - self.first).clamp(0, self.type_index.numel() - 1)]
        if validate and bool((types < 0).any()):
            raise ValueError(f"'z' must hold elements of {list(self.config.elements)} "
                             f"(got {sorted(set(z[types < 0].tolist()))})")
        return types.clamp(min=0)

    @torch.compiler.disable  # its checks and sizes look at the data
    def forward(self, z: Tensor, pos: Tensor, batch: Tensor | None = None, *, weight: Tensor,
                vel: Tensor | None = None, cell: Tensor | None = None, pbc: Tensor | None = None,
                charge: Tensor | None = None, spin: Tensor | None = None, tags: Tensor | None = None,
                edge_index: Tensor | None = None, edge_offset: Tensor | None = None, batch_size: int | None = None,
                validate: bool = True) -> AtomInputs:
        r"""The arguments of :meth:`AtomPredictor.forward`, and a weight of the model."""
        c = self.config
        batch = check_shapes(z, pos, batch, edge_index, edge_offset)
        check_like_model(pos, weight)
        check_velocity(vel, pos, c, self.model)
        check_tags(tags, z, c.num_tags, self.model, validate)
        if validate:
            check_values(pos, vel, batch, edge_index)
        batch_size = int(batch[-1]) + 1 if batch_size is None else batch_size
        types = self.types_of(z, validate)
        totals = [index_of_total(name, value, c.known_totals[name], batch_size, self.model, validate)
                  for name, value in (('charge', charge), ('spin', spin))]
        ptr, own = _offsets(batch, batch_size), None
        center = segment_mean(pos, ptr)
        pos = pos - center[batch]
        if validate:
            check_extent(pos)
        if cell is not None or pbc is not None:
            if edge_index is not None:
                raise ValueError("'edge_index' must not be given with a 'cell': give images by 'edge_offset'")
            cell, pbc = check_lattice(cell, pbc, batch_size, pos)
            if not bool(pbc.any()):
                cell = pbc = None
        if cell is not None:
            c.check_periodic()
        if cell is not None and c.periodic == 'ghost':
            assert pbc is not None and c.cutoff is not None
            ghosts = ghost_atoms(pos, ptr, batch, cell, pbc, c.cutoff)
            types, batch, own = types[ghosts.origin], batch[ghosts.origin], ghosts.own
            pos = pos[ghosts.origin] + translations(ghosts.shift, cell, batch)
            vel, tags = (None if x is None else x[ghosts.origin] for x in (vel, tags))
            ptr, cell, pbc = _offsets(batch, batch_size), None, None
        packing = Packing(ptr)
        layout = PairLayout(len(c.elements), c.cutoff, self.dense_size, edge_index, edge_offset, cell, pbc)
        pairs = layout.pairs(pos, types, packing)
        least = MIN_DISTANCE if min(c.elements) > 0 else SAME_PLACE
        if validate and (closest := float(pairs.closest())) < least:
            raise ValueError(f"'pos' must not hold two atoms of one molecule closer than {least} Å "
                             f"(got {closest:.3g} Å)")
        return AtomInputs(types, pos, center, packing, layout, pairs, vel, own,
                          tuple(index for index in totals if index is not None), tags)


def _offsets(batch: Tensor, batch_size: int) -> Tensor:
    return torch.searchsorted(batch, torch.arange(batch_size + 1, device=batch.device))


def _all_pairs(packing: Packing) -> tuple[Tensor, Tensor]:
    """Every ordered pair of each molecule, sorted."""
    own = packing.length[packing.batch]
    row = torch.repeat_interleave(own)
    first = own.cumsum(0) - own
    col = torch.arange(row.numel(), device=row.device) - first[row] + packing.ptr[packing.batch[row]]
    return row, col


def _with_own(edge_index: Tensor, offset: Tensor | None, count: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Given pairs (j, i) and each atom with itself, sorted."""
    col, row = edge_index.long().unbind(0)
    others = row != col if offset is None else (row != col) | (offset != 0).any(1)
    own = torch.arange(count, device=row.device)
    row, col = torch.cat([row[others], own]), torch.cat([col[others], own])
    order = (row * count + col).argsort(stable=True)
    if offset is not None:
        offset = torch.cat([offset[others], offset.new_zeros(count, 3)])[order]
    return row[order], col[order], offset
