r"""The network of the generators: a molecule as a sequence of atoms, each a type and then a place.

.. math::
    p(M) = \prod_{t=1}^{N} p(a_t \mid <t)\; p(\pi_t \mid a_t, <t)\; p(x_t \mid \pi_t, a_t, <t) \cdot
    p(\mathrm{stop} \mid \le N)

:math:`a_t` is the element, :math:`\pi_t` the earlier atom that it is bonded to (absent for absolute coordinates), and
:math:`x_t` the position. Slot 0 of a token sequence is the condition, slot t is atom t.

One step, in the order of the formula, is :meth:`AtomTransformer.type_states`, :meth:`~AtomTransformer.place_states`,
:meth:`~AtomTransformer.parent_logits`, :meth:`~AtomTransformer.local_frame`, :meth:`~AtomTransformer.place_condition`
and the embedding of the new atom. The teacher-forced pass takes all steps of whole molecules at once, a sampler takes
them one by one, with caches; both call the same methods.
"""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_inertial.elements import COVALENT_RADII, SYMBOLS
from torch_geometric_inertial.generation.atom_model import Caches, Prefix
from torch_geometric_inertial.models.generator_config import GeneratorConfig
from torch_geometric_inertial.models.tokenization import tokenize
from torch_geometric_inertial.nn.condition import Condition
from torch_geometric_inertial.nn.diffusion_head import DiffusionHead
from torch_geometric_inertial.nn.environment import EnvironmentReadout
from torch_geometric_inertial.nn.geo_rope_geometry import GeoRoPEGeometry
from torch_geometric_inertial.nn.local_frame import LocalFrame, LocalFrameBuilder, find_parents, gather_slots
from torch_geometric_inertial.nn.packing import Packing
from torch_geometric_inertial.nn.pair_field import NeighborContext, PairKeys
from torch_geometric_inertial.nn.transformer_block import CausalStack, StackCache
from torch_geometric_inertial.nn.valence_features import ValenceFeatures


class Parts(NamedTuple):
    r"""What a model hands to the network; here alone generators differ.

    Attributes:
        embedding (Module): Atoms to tokens, see :class:`~torch_geometric_inertial.nn.atom_embedding.AtomEmbedding`.
        condition (Condition): Conditions to the token in slot 0.
        type_geometry (GeoRoPEGeometry): Geometry of the first stack.
        type_stack (CausalStack): Up to the type of the next atom.
        type_head (Module): Tokens [T, C] to logits [T, V].
        coord_geometry (GeoRoPEGeometry): Geometry of the second stack.
        coord_stack (CausalStack): From the type of the next atom to the condition of its place.
        frame_builder (LocalFrameBuilder): The coordinate system of the next atom.
        head (DiffusionHead): The density of its coordinates there.
        skip (bool): Whether the second stack sees the input tokens beside the output of the first.
        stop_place (bool): Whether the head also learns to put the stop token at the origin (released Quetzal); for
            absolute coordinates.
        environment_channels (int): Width of :class:`EnvironmentReadout`; 0 for none.
        valence_channels (int): Width of :class:`ValenceFeatures`; 0 for none.
        pair_channels (int): Width of the :class:`PairKeys` that the head's network takes; 0 for none.
    """
    embedding: nn.Module
    condition: Condition
    type_geometry: GeoRoPEGeometry
    type_stack: CausalStack
    type_head: nn.Module
    coord_geometry: GeoRoPEGeometry
    coord_stack: CausalStack
    frame_builder: LocalFrameBuilder
    head: DiffusionHead
    skip: bool
    stop_place: bool
    environment_channels: int
    valence_channels: int
    pair_channels: int


class LossTerms(NamedTuple):
    r"""Scalars: the weighted :obj:`total`, cross-entropy of types and of parents (nats), and diffusion loss."""
    total: Tensor
    type: Tensor
    parent: Tensor
    coord: Tensor


class TeacherForcedOutput(NamedTuple):
    r"""The predictions for a batch, each atom given the true atoms before it: T atoms of B molecules.

    Attributes:
        ptr (Tensor): Offsets of the atoms [B + 1].
        token_ptr (Tensor): Offsets of the tokens [B + 1]; a molecule has one more, for the stop.
        next_type (Tensor): The type that each token should predict [T + B].
        type_logits (Tensor): Its logits [T + B, V].
        parent (Tensor): The parent's slot of each atom [T].
        parent_logits (Tensor, optional): Its logits [T, N]; :obj:`None` without parents.
        has_parent (Tensor): False for the first atom of a molecule [T].
        local (Tensor): Each atom's coordinates in its local frame [T, 3].
        cond (Tensor): Condition of its density there [T, C].
        neighbors (NeighborContext, optional): The atoms around, for a head that looks at them.
        end (Tensor): Vectors of the last tokens, which predict the stop [B, C].
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
    neighbors: NeighborContext | None
    end: Tensor


class AtomTransformer(nn.Module):
    r"""The network, of parts that its subclasses choose.

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
        channels, num_types = self.channels, len(self.elements) + 1
        self.embedding, self.condition = parts.embedding, parts.condition
        self.type_geometry, self.type_stack = parts.type_geometry, parts.type_stack
        self.type_head = parts.type_head
        self.coord_stack = parts.coord_stack
        shared = parts.coord_geometry is parts.type_geometry
        self.own_coord_geometry = None if shared else parts.coord_geometry  # a shared one is stored once
        self.frame_builder, self.head = parts.frame_builder, parts.head
        self.skip, self.stop_place = parts.skip, parts.stop_place
        has_parent = self.frame_builder.has_parent
        if has_parent:
            self.parent_query = nn.Linear(channels, channels, bias=False)
            self.parent_key = nn.Linear(channels, channels, bias=False)
            self.parent_value = nn.Linear(channels, channels, bias=False)
        self.environment = (EnvironmentReadout(channels, num_types, parts.environment_channels)
                            if parts.environment_channels > 0 else None)
        self.valence = (ValenceFeatures(channels, num_types, parts.valence_channels, has_parent)
                        if parts.valence_channels > 0 else None)
        self.pair_keys = PairKeys(channels, num_types, parts.pair_channels) if parts.pair_channels > 0 else None
        vocabulary = torch.full((len(SYMBOLS), ), -1)
        vocabulary[list(self.elements)] = torch.arange(len(self.elements))
        self.register_buffer('vocabulary', vocabulary, persistent=False)
        radii = [float(COVALENT_RADII[z]) for z in self.elements]
        self.register_buffer('radii', torch.tensor([*radii, 0.0]), persistent=False)

    @property
    def stop(self) -> int:
        r"""The type that ends a molecule."""
        return len(self.elements)

    @property
    def coord_geometry(self) -> GeoRoPEGeometry:
        return self.type_geometry if self.own_coord_geometry is None else self.own_coord_geometry

    def fit_properties(self, properties: Tensor) -> AtomTransformer:
        r"""Tells the condition the scale and the range of the properties: [M, P] of the training set, NaN unknown."""
        self.condition.fit_properties(properties)
        return self

    def tokenize(self, data: Data) -> tuple[Tensor, Tensor, Tensor]:
        r"""Types [T], positions [T, 3] (float32) and offsets [B + 1] of a molecule or a batch, checked; see
        :func:`~torch_geometric_inertial.models.tokenization.tokenize`."""
        return tokenize(data, self.vocabulary, self.max_atoms, type(self).__name__)

    # Whole molecules ---------------------------------------------------------------------------------------------

    def forward(self, batch: Data, generator: torch.Generator | None = None) -> LossTerms:
        r"""The training loss of a PyG :obj:`Batch` of molecules in the model's frame and order.

        Args:
            batch (Batch): :obj:`z` [T], :obj:`pos` [T, 3] in Å, :obj:`ptr`; :obj:`groups` [B, G] and
                :obj:`properties` [B, P] where the model has them.
            generator (torch.Generator, optional): Source of the noise.
        """
        out = self.encode(batch, generator)
        type_loss = nn.functional.cross_entropy(out.type_logits, out.next_type)
        parent_loss = type_loss.new_zeros(())
        if out.parent_logits is not None and bool(out.has_parent.any()):
            parent_loss = nn.functional.cross_entropy(out.parent_logits[out.has_parent], out.parent[out.has_parent])
        local, cond = out.local, out.cond
        if self.stop_place:
            local = torch.cat([local, local.new_zeros(out.end.size(0), 3)])
            cond = torch.cat([cond, out.end])
        coord_loss = self.head.loss(local, cond, self.config.num_draws, generator, out.neighbors).mean()
        total = type_loss + parent_loss + self.config.coord_weight * coord_loss
        return LossTerms(total, type_loss, parent_loss, coord_loss)

    def encode(self, batch: Data, generator: torch.Generator | None = None) -> TeacherForcedOutput:
        r"""One pass over whole molecules, teacher-forced; see :meth:`forward`."""
        types, pos, ptr = self.tokenize(batch)
        atoms = Packing(ptr)
        tokens, seen_pos, local, parent, frame = self._embed(types, pos, atoms, generator)
        dense_types = atoms.pad(types, self.stop)

        # the condition in slot 0 of each sequence, atoms behind it
        token_ptr = ptr + torch.arange(ptr.numel(), device=ptr.device)
        at = torch.arange(types.numel(), device=ptr.device) + atoms.batch + 1  # token of each atom
        conditions = {name: batch[name] for name in ('groups', 'properties') if name in batch}
        begin = self.condition(conditions, atoms.size[0], generator)
        x = tokens.new_empty(int(token_ptr[-1]), self.channels).index_copy(0, at, tokens)
        x = x.index_copy(0, token_ptr[:-1], begin.to(x.dtype))
        token_pos = pos.new_zeros(x.size(0), 3).index_copy(0, at, seen_pos)
        next_type = types.new_full((x.size(0), ), self.stop).index_copy(0, at - 1, types)

        before = torch.arange(atoms.size[1] + 1, device=ptr.device).expand(atoms.size[0], -1)  # atoms before a token
        valence = self.valence_features(dense_types, atoms.pad(seen_pos), before)
        h, z = self.run_stacks(x, token_pos, token_ptr, next_type, valence)
        valence = None if valence is None else valence[:, :-1]

        query = z[at - 1]  # the token before atom t places it; the last token places nothing
        memory = atoms.pad(z[at])
        parent_logits = self.parent_logits(atoms.pad(query), memory, before[:, :-1], valence)
        frame = frame._replace(offset=self._blur(frame.offset, generator))
        cond, neighbors = self.place_condition(query, memory, dense_types, atoms.batch, parent, atoms.slot, frame,
                                               None if valence is None else atoms.unpad(valence))
        return TeacherForcedOutput(
            ptr, token_ptr, next_type, self.type_head(h).float(), parent,
            None if parent_logits is None else atoms.unpad(parent_logits), atoms.slot > 0, local, cond, neighbors,
            z[token_ptr[1:] - 1])

    def run_stacks(self, x: Tensor, pos: Tensor, ptr: Tensor, next_type: Tensor, valence: Tensor | None,
                   caches: Caches | None = None) -> tuple[Tensor, Tensor]:
        r"""Both stacks over whole sequences whose next types [T] are known: :meth:`type_states`,
        :meth:`place_states`; :obj:`valence` is [B, N, A, W]."""
        summed = None if valence is None else Packing(ptr).unpad(valence.sum(dim=2))
        h = self.type_states(x, pos, ptr, summed, None if caches is None else caches.type)
        return h, self.place_states(h, x, next_type, pos, ptr, None if caches is None else caches.coord)

    def _embed(self, types: Tensor, pos: Tensor, atoms: Packing,
               generator: torch.Generator | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor, LocalFrame]:
        r"""Tokens of atoms [T, C]; their positions as the model sees them [T, 3], their local coordinates [T, 3], their
        parents' slots [T], and the frame of each."""
        dense_types, dense_pos = atoms.pad(types, self.stop), atoms.pad(pos)
        with torch.no_grad(), torch.autocast(pos.device.type, enabled=False):  # the target needs more than 8 bits
            # [B, N]; without parents slot 0, as when sampling
            parent = (find_parents(dense_pos, self.radii[dense_types]) if self.frame_builder.has_parent
                      else torch.zeros_like(dense_types))
            count = torch.arange(atoms.size[1], device=pos.device).expand(atoms.size)
            frame = self.local_frame(dense_types, dense_pos, parent, count)
            local = atoms.unpad(frame.to_local(dense_pos))
        seen_pos, seen_local = (self._blur(x, generator) for x in (pos, local))
        parent_type, parent = atoms.unpad(gather_slots(dense_types, parent)), atoms.unpad(parent)
        tokens = self.embedding(types, atoms.slot, seen_pos, seen_local, parent_type, parent)
        return tokens, seen_pos, local, parent, frame.map(atoms.unpad)

    def _blur(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        noise = self.config.context_noise
        if not self.training or noise == 0:
            return x
        return x + noise * torch.randn(x.shape, generator=generator, device=x.device)

    # One step ----------------------------------------------------------------------------------------------------

    def valence_features(self, types: Tensor, pos: Tensor, count: Tensor) -> Tensor | None:
        r"""Descriptions [B, Q, N, W] of the first :obj:`count` [B, Q] atoms [B, N]; :obj:`None` if the model has
        none."""
        return None if self.valence is None else self.valence(pos, self.radii[types], types, count)

    def type_states(self, x: Tensor, pos: Tensor, ptr: Tensor, valence: Tensor | None,
                    cache: StackCache | None = None) -> Tensor:
        r"""Tokens [T, C] at [T, 3] to vectors [T, C] that predict the type of the next atom; :obj:`valence` [T, W] is
        summed over the atoms before each token."""
        h = self.type_stack(x, pos, ptr, self.type_geometry(pos, ptr, cache and cache.geometry), cache)
        return h if valence is None else h + self.valence.to_token(valence)

    def place_states(self, h: Tensor, x: Tensor, next_type: Tensor, pos: Tensor, ptr: Tensor,
                     cache: StackCache | None = None) -> Tensor:
        r"""Those vectors, the tokens and the types of the next atoms [T] to vectors [T, C] that place them."""
        skip = x.detach() if self.skip else 0.0  # detached, as in the released code of InertialAR
        return self.coord_stack(h + self.embedding.next_type(next_type) + skip, pos, ptr,
                                self.coord_geometry(pos, ptr, cache and cache.geometry), cache)

    def parent_logits(self, query: Tensor, memory: Tensor, count: Tensor, valence: Tensor | None) -> Tensor | None:
        r"""[B, Q, N] over the first :obj:`count` [B, Q] atoms, whose vectors are :obj:`memory` [B, N, C], for queries
        [B, Q, C]; the first atom of a molecule, which has none, is given slot 0. :obj:`None` without parents."""
        if not self.frame_builder.has_parent:
            return None
        logits = self.parent_query(query) @ self.parent_key(memory).mT / self.channels**0.5
        if valence is not None:
            logits = logits + (valence @ self.valence.to_parent(query).unsqueeze(-1)).squeeze(-1)
        slot = torch.arange(memory.size(1), device=memory.device)
        return logits.float().masked_fill(slot >= count.clamp(min=1).unsqueeze(-1), -1e30)

    def local_frame(self, types: Tensor, pos: Tensor, parent: Tensor, count: Tensor) -> LocalFrame:
        r"""The frames of atoms with parents [B, Q] among the first :obj:`count` [B, Q] atoms [B, N]."""
        return self.frame_builder(pos, self.radii[types], parent, count)

    def place_condition(self, query: Tensor, memory: Tensor, types: Tensor, row: Tensor, parent: Tensor, count: Tensor,
                        frame: LocalFrame, valence: Tensor | None) -> tuple[Tensor, NeighborContext | None]:
        r"""Conditions [T, C] of the diffusion head, and the atoms around, of queries [T, C] in molecules :obj:`row`
        [T]; :obj:`valence` is [T, N, W].

        The first atom of a molecule (:obj:`count == 0`) has no parent; slot 0 would be itself.
        """
        cond = query
        if self.frame_builder.has_parent:
            has_parent = (count > 0).unsqueeze(-1)
            cond = cond + self.parent_value(memory[row, parent]) * has_parent
            if valence is not None:
                own = valence.gather(1, parent.view(-1, 1, 1).expand(-1, 1, valence.size(-1))).squeeze(1)
                cond = cond + self.valence.to_place(own) * has_parent
        if self.environment is not None:
            cond = cond + self.environment(query, memory, types, row, frame)
        if self.pair_keys is None:
            return cond, None
        return cond, self.pair_keys(query, memory, types, row, parent, count, frame)

    # Caches ------------------------------------------------------------------------------------------------------

    def new_caches(self, num_rows: int, capacity: int) -> Caches:
        r"""Empty caches for :obj:`num_rows` sequences of at most :obj:`capacity` tokens."""
        return Caches(*(stack.new_cache(num_rows, capacity, self.radii,
                                        geometry.new_cache(num_rows, capacity, self.radii))
                        for stack, geometry in ((self.type_stack, self.type_geometry),
                                                (self.coord_stack, self.coord_geometry))))

    def prefill(self, types: Tensor, pos: Tensor, ptr: Tensor, begin: Tensor, caches: Caches) -> Prefix:
        r"""Reads the first atoms of molecules into the caches in one pass, as if they had just been sampled.

        Args:
            types (Tensor): Types of the atoms [T], packed; each molecule has at least one.
            pos (Tensor): Their positions [T, 3].
            ptr (Tensor): Offsets [B + 1].
            begin (Tensor): The token in slot 0 of each molecule [B, C].
            caches (Caches): Empty ones of B rows, to be filled with all tokens but the last.
        """
        atoms = Packing(ptr)
        dense_types, dense_pos = atoms.pad(types, self.stop), atoms.pad(pos)
        tokens = self._embed(types, pos, atoms)[0]
        x, token_pos = atoms.pad(tokens).roll(1, dims=1), dense_pos.roll(1, dims=1)  # the condition, all but the last
        x[:, 0], token_pos[:, 0] = begin.to(x.dtype), 0
        before = torch.arange(atoms.size[1], device=ptr.device).expand(atoms.size)
        _, z = self.run_stacks(atoms.unpad(x), atoms.unpad(token_pos), ptr, types,
                               self.valence_features(dense_types, dense_pos, before), caches)
        memory = atoms.pad(z).roll(-1, dims=1)
        memory[torch.arange(atoms.size[0], device=pos.device), atoms.length - 1] = 0
        return Prefix(tokens[ptr[1:] - 1], memory)
