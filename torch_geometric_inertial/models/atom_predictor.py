r"""The shared core of the predictors: from atoms to scalars of molecules and vectors of atoms."""
from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_inertial.models.atom_inputs import AtomInputs, AtomReader
from torch_geometric_inertial.models.derivatives import (
    energy_and_forces,
    energy_forces_stress,
    outside_inference_mode,
)
from torch_geometric_inertial.models.input_checks import check_lattice, check_shapes
from torch_geometric_inertial.models.molecule_batches import arguments, batches
from torch_geometric_inertial.models.predictor_config import PredictorConfig
from torch_geometric_inertial.models.pretrained import Pretrained
from torch_geometric_inertial.neighbors.periodic import FLATTEST
from torch_geometric_inertial.nn.readout import ScalarReadout, VectorReadout
from torch_geometric_inertial.ops.segment import segment_mean, segment_sum


class Prediction(NamedTuple):
    r"""Results of M molecules with T atoms, on the CPU; what was not computed is :obj:`None`.

    Attributes:
        scalars (Tensor, optional): [M], or [M, num_scalars], float64.
        vectors (Tensor, optional): [T, 3].
        stress (Tensor, optional): [M, 3, 3].
    """
    scalars: Tensor | None
    vectors: Tensor | None = None
    stress: Tensor | None = None


class AtomPredictor(Pretrained, nn.Module):
    r"""Predicts scalars of molecules and vectors of atoms. Subclasses give :meth:`encode`; everything else is here.

    Args:
        config (PredictorConfig): The model's configuration.
        num_streams (int): Streams of vectors that :meth:`encode` returns. (default: :obj:`1`)
        dense_size (int): Largest molecule (atoms) whose pairs are all formed; beyond, and where edges are given,
            atoms see each other along edges. (default: :obj:`0`)
    """
    config: Any
    scale: Tensor
    vector_scale: Tensor
    reference: Tensor
    offset: Tensor

    def __init__(self, config: PredictorConfig, *, num_streams: int = 1, dense_size: int = 0):
        super().__init__()
        c = self.config = config
        self.reader = AtomReader(c, dense_size, type(self).__name__)
        self.register_buffer('scale', torch.ones(()))
        self.register_buffer('vector_scale', torch.ones(()))
        self.register_buffer('reference', torch.zeros(len(c.elements), c.num_scalars, dtype=torch.float64))
        self.totals = nn.ModuleList(nn.Embedding(len(known), c.channels) for known in (c.charges, c.spins) if known)
        self.tag_embedding = nn.Embedding(c.num_tags, c.channels) if c.num_tags else None
        self.tag_factor = None
        if c.num_tags and c.scalar_head != 'none':
            self.tag_factor = nn.Parameter(torch.full((c.num_tags - 1, ), 0.1))  # tens of atoms are summed
            self.register_buffer('offset', torch.zeros(c.num_scalars, dtype=torch.float64))
        self.scalar_head = None if c.scalar_head == 'none' else ScalarReadout(c.channels, c.num_scalars)
        has_vectors = c.vector_head in ('direct', 'position')
        self.vector_head = VectorReadout(c.channels, num_streams, c.head_norm) if has_vectors else None
        moves = c.vector_head == 'position' and c.velocity != 'none'
        self.drift = nn.Parameter(torch.tensor(0.73)) if moves else None

    def encode(self, atoms: AtomInputs) -> tuple[Tensor, list[Tensor]]:
        r"""Scalars [N, d] and streams of vectors, each [N, 3, d]."""
        raise NotImplementedError

    def add_labels(self, s: Tensor, atoms: AtomInputs) -> Tensor:
        r"""Scalars [N, d] that know charges, spins and tags, for models that read them."""
        for embedding, index in zip(self.totals, atoms.totals, strict=True):
            s = s + embedding(index)[atoms.batch]
        return s if self.tag_embedding is None else s + self.tag_embedding(atoms.tags)

    def forward(self, z: Tensor, pos: Tensor, batch: Tensor | None = None, *, vel: Tensor | None = None,
                cell: Tensor | None = None, pbc: Tensor | None = None, charge: Tensor | None = None,
                spin: Tensor | None = None, tags: Tensor | None = None, edge_index: Tensor | None = None,
                edge_offset: Tensor | None = None, batch_size: int | None = None, vectors: bool | None = None,
                validate: bool = True) -> tuple[Tensor | None, Tensor | None]:
        r"""
        Args:
            z (Tensor): Atomic numbers (or other types of :obj:`config.elements`) [N], integers.
            pos (Tensor): Positions [N, 3], Å, of the type of the model's weights.
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
            validate (bool): Looks at the values, too: refuses positions that are not finite or absurdly far away,
                unknown elements, and two atoms in one place
                (nearer than :data:`~torch_geometric_inertial.elements.MIN_DISTANCE`, 0.4 Å). Without it those give no
                error; two atoms in one place
                give finite derivatives. (default: :obj:`True`)

        Returns:
            Scalars [B, num_scalars] ([B] if that is 1) in float64, and vectors [N, 3]. What the model lacks is
            :obj:`None`. Conservative vectors can be differentiated again wherever gradients are enabled.

        Raises:
            ValueError: If an argument is wrong, or vectors are asked of a model without them.
        """
        inputs = dict(vel=vel, cell=cell, pbc=pbc, charge=charge, spin=spin, tags=tags, edge_index=edge_index,
                      edge_offset=edge_offset, batch_size=batch_size, validate=validate)
        head = self.config.vector_head
        if vectors and head == 'none':
            raise ValueError(f"this {type(self).__name__} predicts scalars only ('vector_head' is 'none'): it has no "
                             "vectors to give")
        vectors = head != 'none' if vectors is None else vectors
        if vectors and head == 'conservative':
            return outside_inference_mode(self, self._energy_and_forces, z, pos, batch, **inputs)
        return self.read_out(self.prepare(z, pos, batch, **inputs), vectors)

    def _energy_and_forces(self, z: Tensor, pos: Tensor, batch: Tensor | None, **inputs) -> tuple[Tensor, Tensor]:
        return energy_and_forces(partial(self._energy, z, batch, inputs), pos)

    def _energy(self, z: Tensor, batch: Tensor | None, inputs: dict, pos: Tensor, cell: Tensor | None = None) -> Tensor:
        energy, _ = self.read_out(self.prepare(z, pos, batch, **inputs | ({} if cell is None else dict(cell=cell))))
        assert energy is not None
        return energy

    def stress(self, z: Tensor, pos: Tensor, batch: Tensor | None = None, *, cell: Tensor, pbc: Tensor,
               **inputs) -> tuple[Tensor, Tensor, Tensor]:
        r"""Energies, forces and stresses by
        :func:`~torch_geometric_inertial.models.derivatives.energy_forces_stress`.

        Args:
            z, pos, batch, cell, pbc: Those of :meth:`forward`.
            **inputs: Others of :meth:`forward`, except given edges.

        Returns:
            Energies [B]; forces [N, 3]; and stresses [B, 3, 3] in units of energy per Å³, zero for systems without a
            period. All can be differentiated again wherever gradients are enabled.

        Raises:
            ValueError: If the forces are not conservative, images are ghosts, or a periodic cell has no volume.
        """
        if self.config.vector_head != 'conservative':
            raise ValueError("stress is a derivative of the energy: 'vector_head' must be 'conservative' "
                             f"(got '{self.config.vector_head}')")
        if self.config.periodic != 'exact':
            raise ValueError("stress needs the energy of the infinite system: 'periodic' must be 'exact' "
                             f"(got '{self.config.periodic}')")
        return outside_inference_mode(self, self._stress, z, pos, batch, cell=cell, pbc=pbc, **inputs)

    def _stress(self, z: Tensor, pos: Tensor, batch: Tensor | None, *, cell: Tensor, pbc: Tensor,
                batch_size: int | None = None, **inputs) -> tuple[Tensor, Tensor, Tensor]:
        batch = check_shapes(z, pos, batch, None, None)
        batch_size = int(batch[-1]) + 1 if batch_size is None else batch_size
        cell, pbc = check_lattice(cell, pbc, batch_size, pos)
        volume = torch.linalg.det(cell.detach()).abs()[pbc.any(1)]
        if bool((volume < FLATTEST ** 3).any()):
            raise ValueError("'cell' of a periodic system must have a volume, in which the stress is "
                             f"(got {float(volume.amin()):.3g} Å³)")
        energy_of = partial(self._energy, z, batch, inputs | dict(pbc=pbc, batch_size=batch_size))
        return energy_forces_stress(energy_of, pos, cell, pbc, batch)

    def prepare(self, z: Tensor, pos: Tensor, batch: Tensor | None = None, **inputs) -> AtomInputs:
        r"""Checks the arguments of :meth:`forward` and lays the atoms out."""
        return self.reader(z, pos, batch, weight=self.scale, **inputs)

    def read_out(self, atoms: AtomInputs, vectors: bool = False) -> tuple[Tensor | None, Tensor | None]:
        r"""Scalars and, if wanted, vectors of prepared atoms; conservative ones are derivatives of the scalar."""
        s, v = self.encode(atoms)
        if atoms.own is not None:
            s, v = s[atoms.own], [x[atoms.own] for x in v]
        atoms = atoms.without_ghosts()
        scalars = None if self.scalar_head is None else self.pool(self.scalar_head(s), atoms)
        if not vectors or self.vector_head is None:
            return scalars, None
        y = self.vector_head(s, v).to(atoms.pos.dtype) * self.vector_scale
        if self.config.vector_head == 'position':
            y = y + atoms.pos + atoms.center[atoms.batch]
        if self.drift is not None:
            y = y + self.drift * atoms.vel
        return scalars, y

    def pool(self, atomic: Tensor, atoms: AtomInputs) -> Tensor:
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

    @torch.no_grad()
    def predict(self, data: Data | Iterable[Data], batch_size: int = 100, *, vectors: bool | None = None,
                stress: bool = False, validate: bool = True) -> Prediction:
        r"""What :meth:`forward` gives, for any number of molecules, in evaluation mode and without gradients; results
        are on the CPU.

        Args:
            data: One :class:`~torch_geometric.data.Data` or :class:`~torch_geometric.data.Batch`; many, such as a list
                or a data set; a loader of batches; or packed data with :meth:`batch`. Of :obj:`z`, :obj:`pos`,
                :obj:`vel`, :obj:`cell`, :obj:`pbc`, :obj:`charge`, :obj:`spin` and :obj:`tags` the model takes those
                that it reads, and turns floating point ones into the type of its weights.
            batch_size (int): Molecules at a time, where they do not come in batches. (default: :obj:`100`)
            vectors (bool, optional): Whether to compute vectors; by default if the model has them.
            stress (bool): Whether to compute stresses, with energies and forces. (default: :obj:`False`)
            validate (bool): See :meth:`forward`. (default: :obj:`True`)

        Raises:
            ValueError: As :meth:`forward`; or if :obj:`batch_size` is less than one, or an item has no atoms.
        """
        training, found = self.training, [self._nothing(vectors, stress)]
        self.eval()
        try:
            for batch in batches(data, batch_size):
                inputs = arguments(batch, self.config, self.scale, lattice=stress) | dict(validate=validate)
                out = self.stress(**inputs) if stress else (*self(**inputs, vectors=vectors), None)
                found.append(Prediction(*(None if x is None else x.detach().cpu() for x in out)))
        finally:
            self.train(training)
        return Prediction(*(None if column[0] is None else torch.cat(column) for column in zip(*found, strict=True)))

    def _nothing(self, vectors: bool | None, stress: bool) -> Prediction:
        """The prediction of no molecules."""
        c, dtype = self.config, self.scale.dtype
        vectors = stress or (c.vector_head != 'none' if vectors is None else vectors)
        return Prediction(
            None if c.scalar_head == 'none' else torch.zeros((0, c.num_scalars)[:1 + (c.num_scalars > 1)],
                                                             dtype=torch.float64),
            torch.zeros(0, 3, dtype=dtype) if vectors else None, torch.zeros(0, 3, 3, dtype=dtype) if stress else None)

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
        types, batch = self.reader.types_of(z.to(self.scale.device)).cpu(), batch.cpu()
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
