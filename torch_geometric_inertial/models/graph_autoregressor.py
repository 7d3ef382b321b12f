r"""Bond graphs written atom by atom: a type, then the bonds to the atoms before it.

.. math::
    p(G) = \prod_{t=1}^{M} p(a_t \mid G_{<t})\; p(\text{bonds of } t \mid a_t, G_{<t}) \cdot p(\mathrm{stop} \mid G)

:math:`a_t` is an :class:`~torch_geometric_inertial.nn.atom_vocabulary.AtomType`, which tells its hydrogens, so these
need no decision. Slot 0 of the sequence is the condition, slot t is atom t. The bonds are those of
:class:`~torch_geometric_inertial.nn.bond_head.BondHead`.
"""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from torch_geometric_inertial.nn.atom_vocabulary import AtomVocabulary
from torch_geometric_inertial.nn.bond_distances import FAR, prefix_distances
from torch_geometric_inertial.nn.bond_head import (
    MAX_FREE,
    MAX_ORDER,
    BondHead,
    one_hot_distance,
    one_hot_free,
)
from torch_geometric_inertial.nn.pair_biased_attention import PairBiasedBlock, PairCache
from torch_geometric_inertial.nn.skeleton import BondGraph

PAIR_FEATURES = MAX_ORDER + 1 + MAX_FREE + 2 + FAR + 1  #: Order, free valence, distance.
MAX_TOTAL = 15  #: Free valences of all atoms together are told apart up to here.


class GraphLogProb(NamedTuple):
    r"""Log-probabilities in nats, of B molecules of up to M heavy atoms.

    Attributes:
        type (Tensor): Of each atom's type, and of the end behind the last atom [B, M + 1]; 0 behind that.
        bond (Tensor): Of each atom's bonds to those before it [B, M]; 0 for the first atom and behind the last.
    """
    type: Tensor
    bond: Tensor


class GraphAutoregressor(nn.Module):
    r"""A causal transformer over heavy atoms, without geometry.

    Args:
        vocabulary (AtomVocabulary): The types of atoms.
        channels (int): Size :math:`C` of a token.
        heads (int): Attention heads.
        num_layers (int): Layers.
        pair_channels (int): Size of what a pair of atoms is described by.
        max_atoms (int): Longest molecule.
        max_closures (int): Rings that one atom may close.
        dropout (float): Of residual branches. (default: :obj:`0.0`)
    """
    def __init__(self, vocabulary: AtomVocabulary, channels: int, heads: int, num_layers: int, pair_channels: int,
                 max_atoms: int, max_closures: int, dropout: float = 0.0):
        super().__init__()
        num_types = len(vocabulary)
        self.vocabulary, self.stop = vocabulary, num_types
        self.type_embedding = nn.Embedding(num_types, channels)
        self.parent_order = nn.Embedding(MAX_ORDER + 1, channels)
        self.closures = nn.Embedding(max_closures + 1, channels)
        self.index = nn.Embedding(max_atoms, channels)
        self.total_free = nn.Embedding(MAX_TOTAL + 1, channels)
        self.own_free = nn.Embedding(MAX_FREE + 2, channels)
        self.walk = nn.Parameter(torch.zeros(channels))
        self.pair = nn.Sequential(nn.Linear(PAIR_FEATURES, 2 * pair_channels), nn.SiLU(),
                                  nn.Linear(2 * pair_channels, pair_channels))
        self.blocks = nn.ModuleList(
            PairBiasedBlock(channels, heads, pair_channels, dropout) for _ in range(num_layers))
        self.type_norm, self.bond_norm = nn.RMSNorm(channels), nn.RMSNorm(channels)
        self.type_head = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, num_types + 1))
        self.bonds = BondHead(channels, num_types, max_closures)
        for module in (self.type_embedding, self.parent_order, self.closures, self.index, self.total_free,
                       self.own_free):
            nn.init.normal_(module.weight, std=0.3)

    def begin(self, condition: Tensor, walked: Tensor | None) -> Tensor:
        r"""The first tokens [B, C]: the condition [B, C], and whether the order of the atoms is that of a random walk
        :obj:`walked` [B] instead of the canonical one."""
        walked = condition.new_zeros(condition.size(0)) if walked is None else walked.to(condition.dtype)
        return condition + walked.unsqueeze(-1) * self.walk

    # What one new token is made of, in the pass and in a step ------------------------------------------------------

    def tokens(self, types: Tensor, index: Tensor, new: Tensor, free: Tensor) -> Tensor:
        r"""Atoms [...] at places :obj:`index` [...] of the sequence, with the orders of their bonds to earlier atoms
        :obj:`new` [..., J] and all free valences after these bonds :obj:`free` [..., J] (0 for atoms yet to come):
        tokens [..., C]."""
        slot = torch.arange(new.size(-1), device=new.device)
        parent = torch.where(new > 0, slot, -1).amax(dim=-1, keepdim=True)
        order = new.gather(-1, parent.clamp(min=0)).squeeze(-1)
        closures = ((new > 0).sum(dim=-1) - 1).clamp(min=0)
        own = free.gather(-1, index.unsqueeze(-1)).squeeze(-1)
        return (self.type_embedding(types) + self.parent_order(order) + self.index(index)
                + self.closures(closures.clamp(max=self.closures.num_embeddings - 1))
                + self.total_free(free.clamp(min=0).sum(dim=-1).clamp(max=MAX_TOTAL))
                + self.own_free(own.clamp(-1, MAX_FREE) + 1))

    def pairs(self, order: Tensor, free: Tensor, distance: Tensor) -> Tensor:
        r"""What an atom sees of another [..., J]: the order of their bond, its free valence, the bonds between; for the
        condition in slot 0, nothing. [..., 1 + J, P]."""
        features = torch.cat([nn.functional.one_hot(order, MAX_ORDER + 1).float(), one_hot_free(free),
                              one_hot_distance(distance)], dim=-1)
        return self.pair(nn.functional.pad(features, (0, 0, 1, 0)).to(self.pair[0].weight.dtype))

    def run(self, x: Tensor, pair: Tensor, mask: Tensor, caches: list[PairCache] | None = None,
            slot: Tensor | None = None) -> Tensor:
        for i, block in enumerate(self.blocks):
            x = block(x, pair, mask, None if caches is None else caches[i], slot)
        return x

    def new_caches(self, batch_size: int, capacity: int, like: Tensor) -> list[PairCache]:
        return [block.attention.new_cache(batch_size, capacity, like) for block in self.blocks]

    # The teacher-forced pass ---------------------------------------------------------------------------------------

    def free_valences(self, graph: BondGraph) -> Tensor:
        r"""Free valence of atom j after atom s and its bonds are written [B, M (s), M (j)]; 0 for j > s."""
        back = graph.order.tril(-1)  # of atom s to earlier ones
        used = back.sum(dim=2).unsqueeze(1) + back.cumsum(dim=1)  # its own bonds backwards, and later ones to it
        return (self.vocabulary.free[graph.types].unsqueeze(1) - used).tril()

    def encode(self, graph: BondGraph, begin: Tensor, own: Tensor) -> Tensor:
        r"""The causal pass: vectors [B, 1 + M, C] of the first tokens :obj:`begin` [B, C] and of all atoms, each of
        which sees itself and those before it. :obj:`own` [B, M, M] are the bonds between each atom and those before,
        when it has just been written."""
        types, order, _ = graph
        num = types.size(1)
        free = self.free_valences(graph)
        x = begin.unsqueeze(1)
        if num > 0:
            tokens = self.tokens(types, torch.arange(num, device=types.device).expand_as(types), order.tril(-1), free)
            x = torch.cat([x.to(tokens.dtype), tokens], dim=1)
        pair = nn.functional.pad(self.pairs(order.tril(-1), free, own), (0, 0, 0, 0, 1, 0))
        causal = torch.ones(num + 1, num + 1, dtype=torch.bool, device=x.device).tril().unsqueeze(0)
        return self.run(x, pair, causal)

    def log_prob(self, graph: BondGraph, begin: Tensor) -> GraphLogProb:
        r"""The exact log-probability of each decision, of graphs whose first tokens are :obj:`begin` [B, C]."""
        types, order, size = graph
        batch_size, num = types.shape
        slot = torch.arange(num, device=types.device)
        free, ways = self.free_valences(graph), prefix_distances(order)
        hidden = self.encode(graph, begin, ways.own)

        token = torch.arange(num + 1, device=types.device)
        next_type = torch.where(token < size.unsqueeze(1), nn.functional.pad(types, (0, 1)), self.stop)
        logits = self.type_logits(hidden)
        logits = torch.cat([self.never_stop(logits[:, :1]), logits[:, 1:]], dim=1)
        log_type = logits.log_softmax(dim=-1).gather(-1, next_type.unsqueeze(-1)).squeeze(-1)
        log_type = log_type.masked_fill(token > size.unsqueeze(1), 0)
        has_bonds = (slot > 0) & (slot < size.unsqueeze(1))
        log_bond = self._bond_log_prob(graph, hidden, free, ways.parent, has_bonds)
        return GraphLogProb(log_type, log_type.new_zeros(batch_size, num).masked_scatter(has_bonds, log_bond))

    def type_logits(self, hidden: Tensor) -> Tensor:
        r"""Logits of the next type and of the end [..., V + 1], float32."""
        return self.type_head(self.type_norm(hidden)).float()

    def never_stop(self, logits: Tensor) -> Tensor:
        r"""Those of the first type: a molecule has an atom."""
        return torch.cat([logits[..., :-1], torch.full_like(logits[..., -1:], -1e9)], dim=-1)

    def _bond_log_prob(self, graph: BondGraph, hidden: Tensor, free: Tensor, distance: Tensor, where: Tensor) -> Tensor:
        r"""Of the T atoms :obj:`where` [B, M], decided from the tokens before them."""
        types, order, _ = graph
        slot = torch.arange(types.size(1), device=types.device)
        row, at = where.nonzero(as_tuple=True)
        hidden = self.bond_norm(hidden)
        memory = hidden[:, 1:]
        earlier = slot < at.unsqueeze(1)
        before = free[row, at - 1]  # of all atoms, before this one's bonds
        new = order[row, at] * earlier
        left = self.vocabulary.free[types[row, at]]
        query = self.bonds.start(hidden[row, at], types[row, at], left)

        parent = torch.where(new > 0, slot, -1).amax(dim=1)
        logits = self.bonds.parent_logits(query, self.bonds.parent_key(memory)[row], before, earlier)
        total = -nn.functional.cross_entropy(logits, parent, reduction='none')
        query, logits = self.bonds.attach(query, memory[row, parent], before.gather(1, parent.unsqueeze(1)).squeeze(1))
        first = new.gather(1, parent.unsqueeze(1)).squeeze(1)
        total = total - nn.functional.cross_entropy(logits, first - 1, reduction='none')
        left = left - first
        query = self.bonds.take_order(query, first, left)

        rest = new.scatter(1, parent.unsqueeze(1), 0)
        features = self.bonds.closure_features(before, distance[row, at])
        keys = self.bonds.closure_key(memory)
        active, last = torch.arange(row.numel(), device=row.device), torch.full_like(row, -1)
        for step in range(self.bonds.max_closures):
            allowed = (slot > last[active].unsqueeze(1)) & (slot < parent[active].unsqueeze(1))
            logits = self.bonds.closure_logits(query, step, keys[row[active]], features[active], allowed)
            closes = (rest[active] > 0) & (slot > last[active].unsqueeze(1))
            target = torch.where(closes.any(dim=1), closes.to(torch.uint8).argmax(dim=1) + 1, 0)
            total = total.index_add(0, active, -nn.functional.cross_entropy(logits, target, reduction='none'))
            hit = target > 0
            if not bool(hit.any()):
                break
            active, query, partner = active[hit], query[hit], target[hit] - 1
            query, logits = self.bonds.close(query, memory[row[active], partner], before[active, partner])
            taken = rest[active, partner]
            total = total.index_add(0, active, -nn.functional.cross_entropy(logits, taken - 1, reduction='none'))
            left = left.index_add(0, active, -taken)
            query = self.bonds.take_order(query, taken, left[active])
            last = last.index_copy(0, active, partner)
        return total
