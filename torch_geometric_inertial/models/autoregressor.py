r"""The shared core of the generators: a molecule as a sequence of atoms, each a type and then a place.

.. math::
    p(M) = \prod_{t=1}^{N} p(a_t \mid <t)\; p(\pi_t \mid a_t, <t)\; p(x_t \mid \pi_t, a_t, <t) \cdot
    p(\mathrm{stop} \mid \le N)

:math:`a_t` is the element, :math:`\pi_t` the earlier atom that it is bonded to (absent for absolute coordinates), and
:math:`x_t` the position. Slot 0 of a token sequence is the condition, slot t is atom t.
"""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_inertial.elements import COVALENT_RADII, SYMBOLS
from torch_geometric_inertial.models.generator_config import GeneratorConfig
from torch_geometric_inertial.models.likelihood import AtomScorer
from torch_geometric_inertial.models.pretrained import Pretrained
from torch_geometric_inertial.models.writing import AtomWriter
from torch_geometric_inertial.models.writing_state import Caches
from torch_geometric_inertial.nn.condition import Condition
from torch_geometric_inertial.nn.diffusion_head import DiffusionHead
from torch_geometric_inertial.nn.environment import EnvironmentReadout
from torch_geometric_inertial.nn.geo_rope_geometry import GeoRoPEGeometry
from torch_geometric_inertial.nn.packing import Packing
from torch_geometric_inertial.nn.pair_field import PairKeys, Pairs
from torch_geometric_inertial.nn.placement import Neighbourhood, Placement, find_parents, gather_slots
from torch_geometric_inertial.nn.transformer_block import CausalStack
from torch_geometric_inertial.nn.valence import ValenceReadout


class LossTerms(NamedTuple):
    r"""Scalars: the weighted :obj:`total`, cross-entropy of types and of parents (nats), and diffusion loss."""
    total: Tensor
    type: Tensor
    parent: Tensor
    coord: Tensor


class Parts(NamedTuple):
    r"""What a model hands to the core; here alone generators differ.

    Attributes:
        embedding (Module): Atoms to tokens, see :class:`~torch_geometric_inertial.nn.atom_embedding.AtomEmbedding`.
        condition (Condition): Conditions to the token in slot 0.
        type_geometry (GeoRoPEGeometry): Geometry of the first stack.
        type_stack (CausalStack): Up to the type of the next atom.
        type_head (Module): Tokens [T, C] to logits [T, V].
        coord_geometry (GeoRoPEGeometry): Geometry of the second stack.
        coord_stack (CausalStack): From the type of the next atom to the condition of its place.
        placement (Placement): The coordinate system of the next atom.
        head (DiffusionHead): The density of its coordinates there.
        skip (bool): Whether the second stack sees the input tokens beside the output of the first.
        stop_place (bool): Whether the head also learns to put the stop token at the origin (released Quetzal); for
            absolute coordinates.
        environment_channels (int): Width of :class:`EnvironmentReadout`; 0 for none.
        valence_channels (int): Width of :class:`ValenceReadout`; 0 for none.
        pair_channels (int): Width of the :class:`PairKeys` that the head's network takes; 0 for none.
    """
    embedding: nn.Module
    condition: Condition
    type_geometry: GeoRoPEGeometry
    type_stack: CausalStack
    type_head: nn.Module
    coord_geometry: GeoRoPEGeometry
    coord_stack: CausalStack
    placement: Placement
    head: DiffusionHead
    skip: bool
    stop_place: bool
    environment_channels: int
    valence_channels: int
    pair_channels: int


class Reading(NamedTuple):
    r"""What the model thinks of a batch, each atom told of the true atoms before it: T atoms of B molecules.

    Attributes:
        ptr (Tensor): Offsets of the atoms [B + 1].
        token_ptr (Tensor): Offsets of the tokens [B + 1]; a molecule has one more, for the stop.
        next_type (Tensor): The type that each token should foretell [T + B].
        type_logits (Tensor): Its logits [T + B, V].
        parent (Tensor): The parent's slot of each atom [T].
        parent_logits (Tensor, optional): Its logits [T, N]; :obj:`None` without parents.
        has_parent (Tensor): False for the first atom of a molecule [T].
        local (Tensor): Each atom's coordinates in its placement [T, 3].
        cond (Tensor): Condition of its density there [T, C].
        pairs (Pairs, optional): The atoms around, for a head that looks at them.
        end (Tensor): Vectors of the last tokens, which foretell the stop [B, C].
    """
    ptr: Tensor
    token_ptr: Tensor
    next_type: Tensor
    type_logits: Tensor
    parent: Tensor
    parent_logits: Tensor | None
    has_parent: Tensor
    local: Tensor
    cond: Tensor
    pairs: Pairs | None
    end: Tensor


class AtomAutoregressor(Pretrained, AtomScorer, AtomWriter):
    r"""Reads and writes molecules atom by atom. Subclasses choose the :class:`Parts`; the reading is here, the writing
    in :class:`~torch_geometric_inertial.models.writing.AtomWriter`, the likelihood in
    :class:`~torch_geometric_inertial.models.likelihood.AtomScorer`.

    Args:
        parts (Parts): See there.
        config (GeneratorConfig): The model's configuration; the stop type comes after its elements.
    """
    radii: Tensor
    vocabulary: Tensor

    def __init__(self, parts: Parts, config: GeneratorConfig):
        super().__init__()
        self.config = config
        self.elements, self.channels, self.max_atoms = config.elements, config.channels, config.max_atoms
        self.num_draws, self.coord_weight = config.num_draws, config.coord_weight
        self.context_noise = config.context_noise
        elements, channels = self.elements, self.channels
        self.embedding, self.condition = parts.embedding, parts.condition
        self.type_geometry, self.type_stack = parts.type_geometry, parts.type_stack
        self.type_head = parts.type_head
        self.coord_stack = parts.coord_stack
        shared = parts.coord_geometry is parts.type_geometry
        self.own_coord_geometry = None if shared else parts.coord_geometry  # a shared one is stored once
        self.placement, self.head = parts.placement, parts.head
        self.skip, self.stop_place = parts.skip, parts.stop_place
        if self.placement.has_parent:
            self.parent_query = nn.Linear(channels, channels, bias=False)
            self.parent_key = nn.Linear(channels, channels, bias=False)
            self.parent_value = nn.Linear(channels, channels, bias=False)
        self.environment = (EnvironmentReadout(channels, len(elements) + 1, parts.environment_channels)
                            if parts.environment_channels > 0 else None)
        self.valence = (ValenceReadout(channels, len(elements) + 1, parts.valence_channels, self.placement.has_parent)
                        if parts.valence_channels > 0 else None)
        self.pair_keys = (PairKeys(channels, len(elements) + 1, parts.pair_channels)
                          if parts.pair_channels > 0 else None)
        vocabulary = torch.full((len(SYMBOLS), ), -1)
        vocabulary[list(elements)] = torch.arange(len(elements))
        self.register_buffer('vocabulary', vocabulary, persistent=False)
        radii = [float(COVALENT_RADII[z]) for z in elements]
        self.register_buffer('radii', torch.tensor([*radii, 0.0]), persistent=False)

    @property
    def coord_geometry(self) -> GeoRoPEGeometry:
        return self.type_geometry if self.own_coord_geometry is None else self.own_coord_geometry

    def fit_properties(self, properties: Tensor) -> AtomAutoregressor:
        r"""Tells the condition the scale and the range of the properties: [M, P] of the training set, NaN unknown."""
        self.condition.fit_properties(properties)
        return self

    def tokenize(self, data: Data) -> tuple[Tensor, Tensor, Tensor]:
        r"""Types [T], positions [T, 3] (float32) and offsets [B + 1] of a molecule or a batch, checked.

        Raises:
            ValueError: On missing, misshapen, empty, non-finite or too long molecules, on unknown elements, and on
                tensors of another device than the model's.
        """
        name = type(self).__name__
        z, pos, ptr = data.get('z'), data.get('pos'), data.get('ptr')
        if z is None or pos is None:
            missing = 'z' if z is None else 'pos'
            raise ValueError(f"'{name}' needs '{missing}' in its input (got {data})")
        if z.dim() != 1 or pos.shape != (z.numel(), 3):
            raise ValueError(f"'z' must be [N] and 'pos' [N, 3] (got {tuple(z.shape)} and {tuple(pos.shape)})")
        if z.is_floating_point():
            raise ValueError(f"'z' must hold whole numbers (got {z.dtype})")
        if not z.device == pos.device == self.radii.device:
            raise ValueError(f"'z' and 'pos' must be on the model's device, {self.radii.device} "
                             f"(got {z.device} and {pos.device})")
        ptr = torch.tensor([0, z.numel()], device=z.device) if ptr is None else ptr
        length = ptr.diff()
        if bool((length < 1).any()):
            raise ValueError(f"'{name}' cannot read an empty molecule (number {int((length < 1).nonzero()[0])})")
        if int(length.max()) > self.max_atoms:
            raise ValueError(f"'max_atoms' is {self.max_atoms} (got molecule {int(length.argmax())} "
                             f"of {int(length.max())} atoms)")
        if not bool(pos.isfinite().all()):
            raise ValueError(f"'pos' must be finite (got {pos[~pos.isfinite().all(dim=1)][0].tolist()} at atom "
                             f"{int((~pos.isfinite().all(dim=1)).nonzero()[0])})")
        known = (z >= 0) & (z < len(SYMBOLS))
        types = torch.where(known, self.vocabulary[torch.where(known, z, 0)], -1)
        if bool((types < 0).any()):
            symbols = ', '.join(SYMBOLS[e] for e in self.elements)
            raise ValueError(f"'z' must be one of the model's elements {symbols} (got {int(z[types < 0][0])} at atom "
                             f"{int((types < 0).nonzero()[0])})")
        return types, pos.float(), ptr

    def forward(self, batch: Data, generator: torch.Generator | None = None) -> LossTerms:
        r"""The training loss of a PyG :obj:`Batch` of molecules in the model's frame and order.

        Args:
            batch (Batch): :obj:`z` [T], :obj:`pos` [T, 3] in Å, :obj:`ptr`; :obj:`groups` [B, G] and
                :obj:`properties` [B, P] where the model has them.
            generator (torch.Generator, optional): Source of the noise.
        """
        seen = self.read(batch, generator)
        type_loss = nn.functional.cross_entropy(seen.type_logits, seen.next_type)
        parent_loss = type_loss.new_zeros(())
        if seen.parent_logits is not None and bool(seen.has_parent.any()):
            parent_loss = nn.functional.cross_entropy(seen.parent_logits[seen.has_parent],
                                                      seen.parent[seen.has_parent])
        local, cond = seen.local, seen.cond
        if self.stop_place:
            local = torch.cat([local, local.new_zeros(seen.end.size(0), 3)])
            cond = torch.cat([cond, seen.end])
        coord_loss = self.head.loss(local, cond, self.num_draws, generator, seen.pairs).mean()
        return LossTerms(type_loss + parent_loss + self.coord_weight * coord_loss, type_loss, parent_loss, coord_loss)

    def read(self, batch: Data, generator: torch.Generator | None = None) -> Reading:
        r"""One pass over whole molecules, teacher-forced; see :meth:`forward`."""
        types, pos, ptr = self.tokenize(batch)
        atoms = Packing(ptr)
        tokens, seen_pos, local, parent, around = self._embed(types, pos, atoms, generator)
        dense_types = atoms.pad(types, self.stop)

        # the condition in slot 0 of each sequence, atoms behind it
        token_ptr = ptr + torch.arange(ptr.numel(), device=ptr.device)
        at = torch.arange(types.numel(), device=ptr.device) + atoms.batch + 1  # token of each atom
        wanted = {name: batch[name] for name in ('groups', 'properties') if name in batch}
        begin = self.condition(wanted, atoms.size[0], generator)
        x = tokens.new_empty(int(token_ptr[-1]), self.channels).index_copy(0, at, tokens)
        x = x.index_copy(0, token_ptr[:-1], begin.to(x.dtype))
        token_pos = pos.new_zeros(x.size(0), 3).index_copy(0, at, seen_pos)
        next_types = types.new_full((x.size(0), ), self.stop).index_copy(0, at - 1, types)

        accounts = self._accounts(dense_types, atoms.pad(seen_pos), atoms.size[1] + 1)
        h, z = self._think(x, token_pos, token_ptr, next_types, accounts)
        accounts = None if accounts is None else accounts[:, :-1]

        query = z[at - 1]  # the token before atom t places it; the last token places nothing
        memory = atoms.pad(z[at])
        count = torch.arange(atoms.size[1], device=pos.device).expand(atoms.size)
        parent_logits = self._parent_logits(atoms.pad(query), memory, count, accounts)
        around = around._replace(offset=self._blur(around.offset, generator))
        cond = self._place_condition(query, memory, dense_types, atoms.batch, parent, atoms.slot, around,
                                     None if accounts is None else atoms.unpad(accounts))
        pairs = None
        if self.pair_keys is not None:
            pairs = self.pair_keys(query, memory, dense_types, atoms.batch, parent, atoms.slot, around)
        return Reading(ptr, token_ptr, next_types, self.type_head(h).float(), parent,
                       None if parent_logits is None else atoms.unpad(parent_logits), atoms.slot > 0, local, cond,
                       pairs, z[token_ptr[1:] - 1])

    def _embed(self, types: Tensor, pos: Tensor, atoms: Packing,
               generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor, Neighbourhood]:
        r"""Tokens of atoms [T, C]; their positions as the model sees them [T, 3], their local coordinates [T, 3], their
        parents' slots [T], and what is around each."""
        dense_types, dense_pos = atoms.pad(types, self.stop), atoms.pad(pos)
        with torch.no_grad(), torch.autocast(pos.device.type, enabled=False):  # the target needs more than 8 bits
            radius = self.radii[dense_types]
            # [B, N]; without parents slot 0, as when writing
            parent = find_parents(dense_pos, radius) if self.placement.has_parent else torch.zeros_like(dense_types)
            count = torch.arange(atoms.size[1], device=pos.device).expand(atoms.size)
            around = self.placement(dense_pos, radius, parent, count)
            local = atoms.unpad(around.to_local(dense_pos))
        seen_pos, seen_local = (self._blur(x, generator) for x in (pos, local))
        types_of_parents, parent = atoms.unpad(gather_slots(dense_types, parent)), atoms.unpad(parent)
        tokens = self.embedding(types, atoms.slot, seen_pos, seen_local, types_of_parents, parent)
        return tokens, seen_pos, local, parent, around.map(atoms.unpad)

    def _accounts(self, types: Tensor, pos: Tensor, num_tokens: int) -> Tensor | None:
        r"""What the valence readout says of the placed atoms [B, num_tokens, N, W] before each token."""
        if self.valence is None:
            return None
        before = torch.arange(num_tokens, device=pos.device).expand(types.size(0), -1)
        return self.valence(pos, self.radii[types], types, before)

    def _think(self, x: Tensor, pos: Tensor, ptr: Tensor, next_types: Tensor, accounts: Tensor | None,
               caches: Caches | None = None) -> tuple[Tensor, Tensor]:
        r"""Both stacks over whole sequences: vectors [T, C] that foretell the next type, and that place it."""
        shared, layers = (None, None) if caches is None else caches['type']
        h = self.type_stack(x, pos, ptr, self.type_geometry(pos, ptr, shared), layers)
        if accounts is not None:
            h = h + self.valence.to_token(Packing(ptr).unpad(accounts.sum(dim=2)))
        shared, layers = (None, None) if caches is None else caches['coord']
        return h, self.coord_stack(h + self.embedding.next_type(next_types) + self._skip(x), pos, ptr,
                                   self.coord_geometry(pos, ptr, shared), layers)

    def _blur(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        if not self.training or self.context_noise == 0:
            return x
        return x + self.context_noise * torch.randn(x.shape, generator=generator, device=x.device)

    def _skip(self, x: Tensor) -> Tensor | float:
        r"""The input tokens, detached, as the second stack of InertialAR sees them (released code)."""
        return x.detach() if self.skip else 0.0

    def _parent_logits(self, query: Tensor, memory: Tensor, count: Tensor, accounts: Tensor | None) -> Tensor | None:
        r"""[B, Q, N] over the placed atoms; the first atom of a molecule, which has none, is given slot 0."""
        if not self.placement.has_parent:
            return None
        logits = self.parent_query(query) @ self.parent_key(memory).mT / self.channels**0.5
        if accounts is not None:
            logits = logits + (accounts @ self.valence.to_parent(query).unsqueeze(-1)).squeeze(-1)
        slot = torch.arange(memory.size(1), device=memory.device)
        return logits.float().masked_fill(slot >= count.clamp(min=1).unsqueeze(-1), -1e30)

    def _place_condition(self, query: Tensor, memory: Tensor, types: Tensor, row: Tensor, parent: Tensor, count: Tensor,
                         around: Neighbourhood, accounts: Tensor | None) -> Tensor:
        r"""Conditions [T, C] of the diffusion head, of queries [T, C] in molecules :obj:`row` [T].

        The first atom of a molecule (:obj:`count == 0`) has no parent; slot 0 would be itself.
        """
        cond = query
        if self.placement.has_parent:
            has_parent = (count > 0).unsqueeze(-1)
            cond = cond + self.parent_value(memory[row, parent]) * has_parent
            if accounts is not None:
                own = accounts.gather(1, parent.view(-1, 1, 1).expand(-1, 1, accounts.size(-1))).squeeze(1)
                cond = cond + self.valence.to_place(own) * has_parent
        if self.environment is not None:
            cond = cond + self.environment(query, memory, types, row, around)
        return cond
