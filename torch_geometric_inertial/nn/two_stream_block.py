r"""The block of GeoMFormer: attention within and between a stream of scalars and streams of vectors."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from torch_geometric_inertial.nn.equivariant_norm import EquivariantLayerNorm
from torch_geometric_inertial.nn.pairs import Pairs
from torch_geometric_inertial.nn.stream_attention import (
    EquivariantCrossAttention,
    EquivariantSelfAttention,
    InvariantCrossAttention,
    InvariantSelfAttention,
)

ATTENTIONS = ('inv_self', 'inv_cross', 'equ_self', 'equ_cross')


@dataclass(frozen=True)
class BlockConfig:
    r"""The parts of a :class:`TwoStreamBlock`, as in :class:`~torch_geometric_inertial.GeoMFormerConfig`."""
    channels: int
    heads: int
    hidden_channels: int
    num_streams: int = 1
    attentions: tuple[str, ...] = ATTENTIONS
    composition: str = 'parallel'
    inv_norm: bool = True
    equ_norm: str = 'whiten'
    eps_rel: float = 1e-3
    eps_abs: float = 0.1
    center: bool = True
    directional: bool = False
    chiral: bool = False
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    dropout: float = 0.0
    drop_path: float = 0.0


class StreamNorm(nn.Module):
    r"""Layer norm of the scalars and of each stream of vectors."""
    def __init__(self, c: BlockConfig):
        super().__init__()
        self.inv = nn.LayerNorm(c.channels) if c.inv_norm else nn.Identity()
        self.equ = nn.ModuleList(
            EquivariantLayerNorm(c.channels, c.equ_norm, c.eps_rel, c.eps_abs, c.center) for _ in range(c.num_streams))

    def forward(self, s: Tensor, v: list[Tensor], demean: Callable[[Tensor], Tensor] | None) -> tuple:
        if demean is not None:
            v = [demean(x) for x in v]
        return self.inv(s), [norm(x) for norm, x in zip(self.equ, v, strict=True)]


class TwoStreamFeedForward(nn.Module):
    r""":math:`\mathrm{GELU}(\tilde I W_1) W_2` and :math:`((\tilde E V_1) \odot \mathrm{GELU}(\tilde I V_2)) V_3`, with
    :math:`2 d r + 3 d r` weights; if chiral, :math:`(\tilde E A) \times (\tilde E B)` joins the product."""
    def __init__(self, c: BlockConfig):
        super().__init__()
        d, r = c.channels, c.hidden_channels
        self.c = c
        self.inv_up, self.inv_down = nn.Linear(d, r), nn.Linear(r, d)
        self.gate = nn.ModuleList(nn.Linear(d, r) for _ in range(c.num_streams))
        self.equ_up = nn.ModuleList(nn.Linear(d, r, bias=False) for _ in range(c.num_streams))
        self.equ_down = nn.ModuleList(nn.Linear(r, d, bias=False) for _ in range(c.num_streams))
        self.twist = nn.ModuleList(
            nn.Linear(d, 2 * r, bias=False) for _ in range(c.num_streams)) if c.chiral else None

    def forward(self, s: Tensor, v: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        gelu, rate = nn.functional.gelu, self.c.activation_dropout if self.training else 0.0
        out = []
        for k, x in enumerate(v):
            gate = nn.functional.dropout(gelu(self.gate[k](s)), rate)  # one mask for the three components
            hidden = self.equ_up[k](x) * gate.unsqueeze(1)
            if self.twist is not None:
                hidden = hidden + torch.linalg.cross(*self.twist[k](x).chunk(2, dim=-1), dim=1)
            out.append(self.equ_down[k](hidden))
        return self.inv_down(nn.functional.dropout(gelu(self.inv_up(s)), rate)), out


class TwoStreamBlock(nn.Module):
    r"""Pre-norm attention and feed-forward on scalars :math:`I` [N, d] and vectors :math:`E` [N, 3, d],

    .. math::
        I &\leftarrow I + \mathrm{ISA}(\hat I) + \mathrm{ICA}(\hat I, \hat E) \qquad
        E \leftarrow E + \mathrm{ESA}(\hat E) + \mathrm{ECA}(\hat E, \hat I) \\
        I &\leftarrow I + \mathrm{FFN}(\tilde I) \qquad\qquad\qquad\;\;\;
        E \leftarrow E + \mathrm{FFN}(\tilde E, \tilde I)

    with hats and tildes for normed streams (GeoMFormer, Eq. 3 and Fig. 1). :math:`25\,d^2` weights with
    :math:`r = d`. With :obj:`composition='sequential'` the cross attentions read what the self attentions have written.

    With :obj:`directional`, :math:`E` also receives :math:`\sum_j f(r_{ij})\,\hat r_{ij} \otimes \hat I_j W_u`,
    the values along directions that PaiNN has and the paper's block lacks: :math:`2 d^2` more weights.
    """
    def __init__(self, config: BlockConfig):
        super().__init__()
        c = self.config = config
        d, h, drop = c.channels, c.heads, c.attention_dropout
        self.attention_norm, self.feed_forward_norm = StreamNorm(c), StreamNorm(c)
        self.cross_norm = StreamNorm(c) if c.composition == 'sequential' else None
        have = c.attentions
        streams = range(c.num_streams)
        self.inv_self = InvariantSelfAttention(d, h, drop) if 'inv_self' in have else None
        self.inv_cross = InvariantCrossAttention(d, h, drop, c.num_streams) if 'inv_cross' in have else None
        self.equ_self = nn.ModuleList(EquivariantSelfAttention(d, h, drop) for _ in streams if 'equ_self' in have)
        self.equ_cross = nn.ModuleList(EquivariantCrossAttention(d, h, drop) for _ in streams if 'equ_cross' in have)
        if c.directional:
            self.source = nn.ModuleList(nn.Linear(d, d, bias=False) for _ in streams)
            self.source_out = nn.ModuleList(nn.Linear(d, d, bias=False) for _ in streams)
        self.feed_forward = TwoStreamFeedForward(c)

    def outputs(self) -> list[nn.Linear]:
        r"""The last matrices of all residual branches."""
        found = [m.out for m in (self.inv_self, self.inv_cross, *self.equ_self, *self.equ_cross) if m is not None]
        if self.config.directional:
            found += list(self.source_out)
        return [*found, self.feed_forward.inv_down, *self.feed_forward.equ_down]

    def forward(self, s: Tensor, v: list[Tensor], pairs: Pairs, bias: list[Tensor], field: Tensor | None,
                batch: Tensor, batch_size: int, demean: Callable[[Tensor], Tensor] | None = None) -> tuple:
        r"""
        Args:
            s: Scalars [N, d].
            v: Streams of vectors, each [N, 3, d].
            pairs: Which atoms see which.
            bias: For the two attentions of the scalars, then for the two of each stream of vectors.
            field: Of :meth:`Pairs.field`, if directional.
            batch: The molecule of each atom [N].
            batch_size: Molecules.
            demean: Takes the mean over each molecule off vectors, for streams that carry positions.
        """
        def add(s: Tensor, v: list[Tensor], ds: list[Tensor], dv: list[list[Tensor]]) -> tuple:
            s = s + self._drop(sum(ds), batch, batch_size) if ds else s
            return s, [x + self._drop(sum(dx), batch, batch_size) if dx else x for x, dx in zip(v, dv, strict=True)]

        normed_s, normed_v = self.attention_norm(s, v, demean)
        ds = [] if self.inv_self is None else [self.inv_self(normed_s, normed_v, pairs, bias[0])]
        dv = [[layer(normed_s, normed_v[k], pairs, bias[2 + 2 * k])] for k, layer in enumerate(self.equ_self)] \
            or [[] for _ in v]
        if self.cross_norm is not None:
            s, v = add(s, v, ds, dv)
            normed_s, normed_v = self.cross_norm(s, v, demean)
            ds, dv = [], [[] for _ in v]
        if self.inv_cross is not None:
            ds.append(self.inv_cross(normed_s, normed_v, pairs, bias[1]))
        for k, layer in enumerate(self.equ_cross):
            dv[k].append(layer(normed_s, normed_v[k], pairs, bias[3 + 2 * k]))
        if field is not None:
            for k, (source, out) in enumerate(zip(self.source, self.source_out, strict=True)):
                dv[k].append(out(pairs.radiate(field, source(normed_s), self.config.heads)))
        s, v = add(s, v, ds, dv)
        ds_last, dv_last = self.feed_forward(*self.feed_forward_norm(s, v, demean))
        return add(s, v, [ds_last], [[x] for x in dv_last])

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
