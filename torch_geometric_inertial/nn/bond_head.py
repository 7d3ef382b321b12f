r"""The bonds of one more atom to those before it: a parent, and the rings that it closes.

.. math::
    p(\text{bonds of } t) = p(\pi_t)\, p(o_{t\pi}) \prod_k p(c_k \mid \pi, c_{<k})\, p(o_{t c_k})

:math:`\pi_t` is the last earlier atom that it is bonded to, :math:`c_k < \pi_t` the others, ascending, until
:math:`c_k = \text{none}`; :math:`o` are bond orders. Atoms are chosen by pointers (Vinyals et al. 2015): a softmax over
the earlier atoms. Each decision sees how many valences every atom has left, which the types settle exactly.
"""
from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from torch_geometric_inertial.nn.bond_distances import FAR

MAX_ORDER = 3  #: Single, double, triple.
MAX_FREE = 6  #: Free valences are told apart up to here; -1 stands for fewer than none.


def one_hot_free(free: Tensor) -> Tensor:
    r"""Free valences [...] (clamped to -1 … 6) as float [..., 8]."""
    return nn.functional.one_hot(free.clamp(-1, MAX_FREE) + 1, MAX_FREE + 2).float()


def one_hot_distance(distance: Tensor) -> Tensor:
    r"""Numbers of bonds between two atoms [...] (clamped to 7) as float [..., 8]."""
    return nn.functional.one_hot(distance.clamp(max=FAR), FAR + 1).float()


class BondHead(nn.Module):
    r"""The decisions of the module, one method each, for :math:`T` new atoms at a time.

    A query [T, C] goes from decision to decision: :meth:`start`, :meth:`parent_logits`, :meth:`attach`,
    :meth:`take_order`, then for each ring :meth:`closure_logits`, :meth:`close` and :meth:`take_order`.

    Args:
        channels (int): Size :math:`C` of the vectors.
        num_types (int): Types of atoms.
        max_closures (int): Rings that one atom may close.
    """
    def __init__(self, channels: int, num_types: int, max_closures: int):
        super().__init__()
        self.channels, self.max_closures = channels, max_closures
        self.type_embedding = nn.Embedding(num_types, channels)
        self.own_free = nn.Embedding(MAX_FREE + 2, channels)
        self.partner_free = nn.Embedding(MAX_FREE + 2, channels)
        self.order_embedding = nn.Embedding(MAX_ORDER + 1, channels)
        self.closure_step = nn.Embedding(max_closures, channels)
        self.parent_query, self.parent_key = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.parent_pair = nn.Linear(MAX_FREE + 2, channels, bias=False)
        self.parent_value = nn.Linear(channels, channels)
        self.parent_order = self._order_mlp()
        self.closure_query, self.closure_key = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.closure_pair = nn.Linear(MAX_FREE + 2 + FAR + 1, channels, bias=False)
        self.closure_value = nn.Linear(channels, channels)
        self.closure_order = self._order_mlp()
        self.no_closure = nn.Linear(channels, 1)
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.3)

    def _order_mlp(self) -> nn.Module:
        c = self.channels
        return nn.Sequential(nn.Linear(2 * c, c), nn.SiLU(), nn.Linear(c, MAX_ORDER))

    def _pointer(self, query: Tensor, keys: Tensor, pair: nn.Linear, features: Tensor, allowed: Tensor) -> Tensor:
        r""":math:`q \cdot (k_j + W f_j) / \sqrt C`, of queries [T, C], keys [T, J, C], features [T, J, F]: [T, J]."""
        score = (keys @ query.unsqueeze(-1)).squeeze(-1)
        score = score + (features.to(query.dtype) @ (query @ pair.weight).unsqueeze(-1)).squeeze(-1)
        return (score / math.sqrt(self.channels)).float().masked_fill(~allowed, -1e9)

    def _own(self, free: Tensor) -> Tensor:
        return self.own_free(free.clamp(-1, MAX_FREE) + 1)

    def start(self, query: Tensor, types: Tensor, free: Tensor) -> Tensor:
        r"""The query of new atoms of these types [T] that have so many valences for heavy atoms [T]."""
        return query + self.type_embedding(types) + self._own(free)

    def parent_logits(self, query: Tensor, keys: Tensor, free: Tensor, allowed: Tensor) -> Tensor:
        r"""Over the earlier atoms [T, J], with :obj:`keys` through :attr:`parent_key`, their free valences [T, J] and
        whether they may be chosen [T, J]."""
        return self._pointer(self.parent_query(query), keys, self.parent_pair, one_hot_free(free), allowed)

    def attach(self, query: Tensor, parent: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
        r"""The query that knows its parent (vectors [T, C], free valences [T]), and logits [T, 3] of orders 1, 2, 3."""
        query = query + self.parent_value(parent) + self.partner_free(free.clamp(-1, MAX_FREE) + 1)
        return query, self.parent_order(torch.cat([query, parent], dim=-1)).float()

    def take_order(self, query: Tensor, order: Tensor, free: Tensor) -> Tensor:
        r"""The query that knows the order [T] of its last bond and the valences that are left to it [T]."""
        return query + self.order_embedding(order) + self._own(free)

    def closure_logits(self, query: Tensor, step: int, keys: Tensor, features: Tensor, allowed: Tensor) -> Tensor:
        r"""No further ring, or one to an earlier atom [T, 1 + J]; :obj:`keys` through :attr:`closure_key`,
        :obj:`features` of :meth:`closure_features`."""
        query = query + self.closure_step.weight[step]
        pointer = self._pointer(self.closure_query(query), keys, self.closure_pair, features, allowed)
        return torch.cat([self.no_closure(query).float(), pointer], dim=-1)

    @staticmethod
    def closure_features(free: Tensor, distance: Tensor) -> Tensor:
        r"""Of the earlier atoms [T, J]: free valences and bonds to the parent, which settle the size of the ring."""
        return torch.cat([one_hot_free(free), one_hot_distance(distance)], dim=-1)

    def close(self, query: Tensor, partner: Tensor, free: Tensor) -> tuple[Tensor, Tensor]:
        r"""As :meth:`attach`, for an atom to which a ring is closed."""
        query = query + self.closure_value(partner) + self.partner_free(free.clamp(-1, MAX_FREE) + 1)
        return query, self.closure_order(torch.cat([query, partner], dim=-1)).float()
