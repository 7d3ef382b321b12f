r"""The network of the generators: a molecule as a sequence of atoms, each a type and then a place.

.. math::
    p(M) = \prod_{t=1}^{N} p(a_t \mid <t)\; p(x_t \mid a_t, <t) \cdot p(\mathrm{stop} \mid \le N)

:math:`a_t` is the element and :math:`x_t` the position. Slot 0 of a token sequence is the condition, slot t is atom t.

One step, in the order of the formula, is :meth:`AtomTransformer.type_states`, :meth:`~AtomTransformer.place_states`
and the embedding of the new atom. The teacher-forced pass takes all steps of whole molecules at once, a sampler takes
them one by one, with caches; both call the same methods.
"""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_inertial.elements import COVALENT_RADII, SYMBOLS
from torch_geometric_inertial.generation.atom_model import Caches
from torch_geometric_inertial.models.generator_config import GeneratorConfig
from torch_geometric_inertial.models.prefix_likelihood import prefix_log_prob
from torch_geometric_inertial.models.tokenization import tokenize
from torch_geometric_inertial.nn.condition import Condition, conditions_of
from torch_geometric_inertial.nn.diffusion_head import DiffusionHead
from torch_geometric_inertial.nn.geo_rope_geometry import GeoRoPEGeometry
from torch_geometric_inertial.nn.packing import Packing
from torch_geometric_inertial.nn.transformer_block import CausalStack, StackCache


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
        head (DiffusionHead): The density of its coordinates there.
        skip (bool): Whether the second stack sees the input tokens beside the output of the first.
        stop_place (bool): Whether the head also learns to put the stop token at the origin (released Quetzal); for
            absolute coordinates.
    """
    embedding: nn.Module
    condition: Condition
    type_geometry: GeoRoPEGeometry
    type_stack: CausalStack
    type_head: nn.Module
    coord_geometry: GeoRoPEGeometry
    coord_stack: CausalStack
    head: DiffusionHead
    skip: bool
    stop_place: bool


class LossTerms(NamedTuple):
    r"""Scalars: the weighted :obj:`total`, cross-entropy of types (nats), and diffusion loss."""
    total: Tensor
    type: Tensor
    coord: Tensor


class TeacherForcedOutput(NamedTuple):
    r"""The predictions for a batch, each atom given the true atoms before it: T atoms of B molecules.

    Attributes:
        ptr (Tensor): Offsets of the atoms [B + 1].
        token_ptr (Tensor): Offsets of the tokens [B + 1]; a molecule has one more, for the stop.
        next_type (Tensor): The type that each token should predict [T + B].
        type_logits (Tensor): Its logits [T + B, V].
        pos (Tensor): Each atom's position [T, 3].
        cond (Tensor): Condition of its density [T, C].
        end (Tensor): Vectors of the last tokens, which predict the stop [B, C].
    """
    ptr: Tensor
    token_ptr: Tensor
    next_type: Tensor
    type_logits: Tensor
    pos: Tensor
    cond: Tensor
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
        self.embedding, self.condition = parts.embedding, parts.condition
        self.type_geometry, self.type_stack = parts.type_geometry, parts.type_stack
        self.type_head = parts.type_head
        self.coord_stack = parts.coord_stack
        shared = parts.coord_geometry is parts.type_geometry
        self.own_coord_geometry = None if shared else parts.coord_geometry  # a shared one is stored once
        self.head, self.skip, self.stop_place = parts.head, parts.skip, parts.stop_place
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
        r"""Types [T], positions [T, 3] in the precision of the model and offsets [B + 1] of a molecule or a batch,
        checked; see :func:`~torch_geometric_inertial.models.tokenization.tokenize`."""
        types, pos, ptr = tokenize(data, self.vocabulary, self.max_atoms)
        return types, pos.to(self.condition.null.dtype), ptr

    # Whole molecules ---------------------------------------------------------------------------------------------

    def prefix_log_prob(self, data: Data, noise: Tensor) -> Tensor:
        r"""How likely the beginnings of molecules are, up to a constant [B]; see
        :func:`~torch_geometric_inertial.models.prefix_likelihood.prefix_log_prob`."""
        return prefix_log_prob(self.encode(data), self.head, noise)

    def forward(self, batch: Data, generator: torch.Generator | None = None) -> LossTerms:
        r"""The training loss of a PyG :obj:`Batch` of molecules in the model's frame and order.

        Args:
            batch (Batch): :obj:`z` [T], :obj:`pos` [T, 3] in Å, :obj:`ptr`; :obj:`groups` [B, G] and
                :obj:`properties` [B, P] where the model has them.
            generator (torch.Generator, optional): Source of the noise.
        """
        out = self.encode(batch, generator)
        type_loss = nn.functional.cross_entropy(out.type_logits, out.next_type)
        pos, cond = out.pos, out.cond
        if self.stop_place:
            pos, cond = torch.cat([pos, pos.new_zeros(out.end.size(0), 3)]), torch.cat([cond, out.end])
        coord_loss = self.head.loss(pos, cond, self.config.num_draws, generator).mean()
        return LossTerms(type_loss + self.config.coord_weight * coord_loss, type_loss, coord_loss)

    def encode(self, batch: Data, generator: torch.Generator | None = None) -> TeacherForcedOutput:
        r"""One pass over whole molecules, teacher-forced; see :meth:`forward`."""
        types, pos, ptr = self.tokenize(batch)
        atoms, seen = Packing(ptr), self._blur(pos, generator)
        tokens = self.embedding(types, atoms.slot, seen)

        # the condition in slot 0 of each sequence, atoms behind it
        token_ptr = ptr + torch.arange(ptr.numel(), device=ptr.device)
        at = torch.arange(types.numel(), device=ptr.device) + atoms.batch + 1  # token of each atom
        conditions = conditions_of(batch)
        begin = self.condition(conditions, atoms.size[0], generator)
        x = tokens.new_empty(int(token_ptr[-1]), self.channels).index_copy(0, at, tokens)
        x = x.index_copy(0, token_ptr[:-1], begin.to(x.dtype))
        token_pos = pos.new_zeros(x.size(0), 3).index_copy(0, at, seen)
        next_type = types.new_full((x.size(0), ), self.stop).index_copy(0, at - 1, types)
        h, z = self.run_stacks(x, token_pos, token_ptr, next_type)
        # the token before atom t places it; the last token places nothing
        return TeacherForcedOutput(ptr, token_ptr, next_type, self.type_head(h).float(), pos, z[at - 1],
                                   z[token_ptr[1:] - 1])

    def run_stacks(self, x: Tensor, pos: Tensor, ptr: Tensor, next_type: Tensor,
                   caches: Caches | None = None) -> tuple[Tensor, Tensor]:
        r"""Both stacks over whole sequences whose next types [T] are known: :meth:`type_states`,
        :meth:`place_states`."""
        h = self.type_states(x, pos, ptr, None if caches is None else caches.type)
        return h, self.place_states(h, x, next_type, pos, ptr, None if caches is None else caches.coord)

    def _blur(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        noise = self.config.context_noise
        if not self.training or noise == 0:
            return x
        return x + noise * torch.randn(x.shape, generator=generator, device=x.device, dtype=torch.float32)

    # One step ----------------------------------------------------------------------------------------------------

    def type_states(self, x: Tensor, pos: Tensor, ptr: Tensor, cache: StackCache | None = None) -> Tensor:
        r"""Tokens [T, C] at [T, 3] to vectors [T, C] that predict the type of the next atom."""
        return self.type_stack(x, pos, ptr, self.type_geometry(pos, ptr, cache and cache.geometry), cache)

    def place_states(self, h: Tensor, x: Tensor, next_type: Tensor, pos: Tensor, ptr: Tensor,
                     cache: StackCache | None = None) -> Tensor:
        r"""Those vectors, the tokens and the types of the next atoms [T] to vectors [T, C],
        the conditions of their places."""
        skip = x.detach() if self.skip else 0.0  # detached, as in the released code of InertialAR
        return self.coord_stack(h + self.embedding.next_type(next_type) + skip, pos, ptr,
                                self.coord_geometry(pos, ptr, cache and cache.geometry), cache)

    # Caches ------------------------------------------------------------------------------------------------------

    def new_caches(self, num_rows: int, capacity: int) -> Caches:
        r"""Empty caches for :obj:`num_rows` sequences of at most :obj:`capacity` tokens."""
        return Caches(*(stack.new_cache(num_rows, capacity, self.radii,
                                        geometry.new_cache(num_rows, capacity, self.radii))
                        for stack, geometry in ((self.type_stack, self.type_geometry),
                                                (self.coord_stack, self.coord_geometry))))

    def prefill(self, types: Tensor, pos: Tensor, ptr: Tensor, begin: Tensor, caches: Caches) -> Tensor:
        r"""Reads the first atoms of molecules into the caches in one pass, as if they had just been sampled.

        Args:
            types (Tensor): Types of the atoms [T], packed; each molecule has at least one.
            pos (Tensor): Their positions [T, 3].
            ptr (Tensor): Offsets [B + 1].
            begin (Tensor): The token in slot 0 of each molecule [B, C].
            caches (Caches): Empty ones of B rows, to be filled with all tokens but the last.

        Returns:
            Tensor: The tokens of the last atoms, which no stack has seen yet [B, C].
        """
        atoms, pos = Packing(ptr), pos.to(begin.dtype)
        tokens = self.embedding(types, atoms.slot, pos)
        x, token_pos = atoms.pad(tokens).roll(1, dims=1), atoms.pad(pos).roll(1, dims=1)  # all but the last
        x[:, 0], token_pos[:, 0] = begin.to(x.dtype), 0
        self.run_stacks(atoms.unpad(x), atoms.unpad(token_pos), ptr, types, caches)
        return tokens[ptr[1:] - 1]
