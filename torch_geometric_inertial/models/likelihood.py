r"""The likelihood of molecules under a generator."""
from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_inertial.nn.flow_density import flow_log_density

if TYPE_CHECKING:
    from torch_geometric_inertial.models.autoregressor import Reading


class LogProb(NamedTuple):
    r"""Log-probabilities in nats, densities for lengths in Å; T atoms of B molecules, float64.

    Attributes:
        total (Tensor): Of each molecule [B]: the sum of all that follows.
        type (Tensor): Of each atom's element [T].
        coord (Tensor): Density of its place [T].
        parent (Tensor): Of the atom that it is placed from [T]; 0 without parents and for the first atom.
        stop (Tensor): Of the end after the last atom [B].
    """
    total: Tensor
    type: Tensor
    coord: Tensor
    parent: Tensor
    stop: Tensor


class AtomScorer(nn.Module):
    r"""The likelihood of :class:`~torch_geometric_inertial.models.autoregressor.AtomAutoregressor`, whose modules it
    uses."""
    if TYPE_CHECKING:
        head: nn.Module
        stop: int

        def read(self, batch: Data, generator: torch.Generator | None = None) -> Reading: ...

    @torch.no_grad()
    def log_prob(self, data: Data, *, num_steps: int = 16, chunk_size: int = 1024) -> LogProb:
        r"""The likelihood of a molecule or a batch, of what :meth:`generate` writes at temperature 1:

        .. math::
            \log p(M) = \sum_t \big[\log p(a_t \mid <t) + \log p(\pi_t \mid a_t, <t) + \log p(x_t \mid \pi_t, a_t, <t)
            \big] + \log p(\mathrm{stop} \mid \le N)

        Elements, parents and the stop by their log-softmax (a molecule has an atom, so the first cannot be the stop),
        places by the flow of the diffusion head with the exact trace
        (:func:`~torch_geometric_inertial.nn.flow_density.flow_log_density`); the stop has no place.

        **Nothing is integrated out.** This is the density of these coordinates in this order, in the pose that is
        given: put molecules into the model's frame and order first, as for training. The marginal over poses and
        orders would be larger. In models with parents it is the joint probability with the parents that the distances
        define (:func:`~torch_geometric_inertial.nn.placement.find_parents`), a lower bound of the sum over parents.
        The density is that of positions with Gaussian noise of 2e-3 Å, less than the sampler resolves.

        Args:
            data (Data or Batch): :obj:`z` [T], :obj:`pos` [T, 3] in Å, :obj:`ptr` if there are several; conditions
                where the model has them, else the unconditional likelihood.
            num_steps (int): Steps of the flow, of four evaluations and twelve vector-Jacobian products each.
                (default: :obj:`16`)
            chunk_size (int): Atoms whose flow is in memory at a time. (default: :obj:`1024`)

        Raises:
            ValueError: On molecules that the model cannot read, and if :obj:`num_steps` or :obj:`chunk_size` is
                below 1.
        """
        was_training = self.training
        self.eval()
        try:
            seen = self.read(data)
            coord = flow_log_density(self.head, seen.local, seen.cond, num_steps, pairs=seen.pairs,
                                     chunk_size=chunk_size)
        finally:
            self.train(was_training)
        logits = seen.type_logits.double()
        logits[seen.token_ptr[:-1], self.stop] = -torch.inf
        log_type = logits.log_softmax(dim=1).gather(1, seen.next_type.unsqueeze(1)).squeeze(1)
        last = seen.token_ptr[1:] - 1
        is_atom = torch.ones_like(log_type, dtype=torch.bool).index_fill(0, last, False)
        log_type, stop = log_type[is_atom], log_type[last]
        parent = torch.zeros_like(coord)
        if seen.parent_logits is not None:
            choice = seen.parent_logits.double().log_softmax(dim=1).gather(1, seen.parent.unsqueeze(1)).squeeze(1)
            parent = torch.where(seen.has_parent, choice, 0.0)
        batch = torch.repeat_interleave(seen.ptr.diff())
        total = stop.index_add(0, batch, log_type + parent + coord)
        return LogProb(total, log_type, coord, parent, stop)
