r"""The block of GeoMFormer: attention within and between a stream of scalars and a stream of vectors."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from torch_geometric_inertial.nn.equivariant_norm import EquivariantLayerNorm
from torch_geometric_inertial.nn.pair_attention import PairAttention
from torch_geometric_inertial.nn.stream_attention import (
    EquivariantCrossAttention,
    EquivariantSelfAttention,
    InvariantCrossAttention,
    InvariantSelfAttention,
)

#: The norm's :math:`\epsilon_\mathrm{abs}`. Where symmetry makes an atom's vectors vanish (the carbon of methane) each
#: norm magnifies displacements by :math:`1 / \sqrt{\epsilon_\mathrm{abs}}`, and layers multiply: with 1e-8 the second
#: derivatives of six random layers reach 1e46, with 0.1 a hundred.
EPS_ABS = 0.1


@dataclass(frozen=True)
class BlockConfig:
    r"""The parts of a :class:`TwoStreamBlock`, as in :class:`~torch_geometric_inertial.GeoMFormerConfig`."""
    channels: int
    heads: int
    equ_norm: str = 'whiten'
    directional: bool = False
    chiral: bool = False
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    dropout: float = 0.0
    drop_path: float = 0.0


class StreamNorm(nn.Module):
    r"""Layer norms of the scalars and of the vectors."""
    def __init__(self, c: BlockConfig):
        super().__init__()
        self.inv, self.equ = nn.LayerNorm(c.channels), EquivariantLayerNorm(c.channels, c.equ_norm, eps_abs=EPS_ABS)

    def forward(self, s: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return self.inv(s), self.equ(v)


class TwoStreamFeedForward(nn.Module):
    r""":math:`\mathrm{GELU}(\tilde I W_1) W_2` and :math:`((\tilde E V_1) \odot \mathrm{GELU}(\tilde I V_2)) V_3`, with
    :math:`5 d^2` weights; if chiral, :math:`(\tilde E A) \times (\tilde E B)` joins the product."""
    def __init__(self, c: BlockConfig):
        super().__init__()
        d = c.channels
        self.dropout = c.activation_dropout
        self.inv_up, self.inv_down, self.gate = nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d)
        self.equ_up, self.equ_down = nn.Linear(d, d, bias=False), nn.Linear(d, d, bias=False)
        self.twist = nn.Linear(d, 2 * d, bias=False) if c.chiral else None

    def forward(self, s: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        gelu, rate = nn.functional.gelu, self.dropout if self.training else 0.0
        gate = nn.functional.dropout(gelu(self.gate(s)), rate)  # one mask for the three components
        hidden = self.equ_up(v) * gate.unsqueeze(1)
        if self.twist is not None:
            hidden = hidden + torch.linalg.cross(*self.twist(v).chunk(2, dim=-1), dim=1)
        return self.inv_down(nn.functional.dropout(gelu(self.inv_up(s)), rate)), self.equ_down(hidden)


class TwoStreamBlock(nn.Module):
    r"""Pre-norm attention and feed-forward on scalars :math:`I` [N, d] and vectors :math:`E` [N, 3, d],

    .. math::
        I &\leftarrow I + \mathrm{ISA}(\hat I) + \mathrm{ICA}(\hat I, \hat E) \qquad
        E \leftarrow E + \mathrm{ESA}(\hat E) + \mathrm{ECA}(\hat E, \hat I) \\
        I &\leftarrow I + \mathrm{FFN}(\tilde I) \qquad\qquad\qquad\;\;\;
        E \leftarrow E + \mathrm{FFN}(\tilde E, \tilde I)

    with hats and tildes for normed streams (GeoMFormer, Eq. 3 and Fig. 1). :math:`25\,d^2` weights.

    With :obj:`directional`, :math:`E` also receives :math:`\sum_j f(r_{ij})\,\hat r_{ij} \otimes \hat I_j W_u`,
    the values along directions that PaiNN has and the paper's block lacks: :math:`2 d^2` more weights.
    """
    def __init__(self, config: BlockConfig):
        super().__init__()
        c = self.config = config
        d, h, drop = c.channels, c.heads, c.attention_dropout
        self.attention_norm, self.feed_forward_norm = StreamNorm(c), StreamNorm(c)
        self.inv_self, self.inv_cross = InvariantSelfAttention(d, h, drop), InvariantCrossAttention(d, h, drop)
        self.equ_self, self.equ_cross = EquivariantSelfAttention(d, h, drop), EquivariantCrossAttention(d, h, drop)
        if c.directional:
            self.source, self.source_out = nn.Linear(d, d, bias=False), nn.Linear(d, d, bias=False)
        self.feed_forward = TwoStreamFeedForward(c)

    def outputs(self) -> list[nn.Linear]:
        r"""The last matrices of all residual branches."""
        found = [layer.out for layer in (self.inv_self, self.inv_cross, self.equ_self, self.equ_cross)]
        if self.config.directional:
            found.append(self.source_out)
        return [*found, self.feed_forward.inv_down, self.feed_forward.equ_down]

    def forward(self, s: Tensor, v: Tensor, pairs: PairAttention, bias: list[Tensor], field: Tensor | None,
                batch: Tensor, batch_size: int) -> tuple[Tensor, Tensor]:
        r"""
        Args:
            s: Scalars [N, d].
            v: Vectors [N, 3, d].
            pairs: Which atoms see which.
            bias: For the two attentions of the scalars, then for the two of the vectors.
            field: Of :meth:`PairAttention.field`, if directional.
            batch: The molecule of each atom [N].
            batch_size: Molecules.
        """
        s_hat, v_hat = self.attention_norm(s, v)
        ds = self.inv_self(s_hat, v_hat, pairs, bias[0]) + self.inv_cross(s_hat, v_hat, pairs, bias[1])
        dv = self.equ_self(s_hat, v_hat, pairs, bias[2]) + self.equ_cross(s_hat, v_hat, pairs, bias[3])
        if field is not None:
            dv = dv + self.source_out(pairs.sum_field(field, self.source(s_hat), self.config.heads))
        s, v = s + self._drop(ds, batch, batch_size), v + self._drop(dv, batch, batch_size)
        ds, dv = self.feed_forward(*self.feed_forward_norm(s, v))
        return s + self._drop(ds, batch, batch_size), v + self._drop(dv, batch, batch_size)

    def _drop(self, x: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        if not self.training:
            return x
        if self.config.dropout > 0:
            x = drop_channels(x, self.config.dropout)
        if self.config.drop_path > 0:
            keep = nn.functional.dropout(x.new_ones(batch_size), self.config.drop_path)
            x = x * keep[batch].view(-1, *[1] * (x.dim() - 1))
        return x


def drop_channels(x: Tensor, rate: float) -> Tensor:
    r"""Dropout of scalars [N, d] or of whole vectors [N, 3, d]: single components would break equivariance."""
    return x * nn.functional.dropout(x.new_ones(x.size(0), *[1] * (x.dim() - 2), x.size(-1)), rate)
