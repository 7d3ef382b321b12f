r"""Layer normalization of vector features."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from torch_geometric_inertial.ops.inverse_root import inverse_root, inverse_root_newton_schulz
from torch_geometric_inertial.ops.library import has_kernel
from torch_geometric_inertial.ops.whiten import regularized_covariance, whiten

KINDS = ('whiten', 'rms', 'none')
METHODS = ('auto', 'sylvester', 'newton_schulz')


class EquivariantLayerNorm(nn.Module):
    r"""Whitens the :math:`d` vectors :math:`X \in \mathbb{R}^{3 \times d}` of an atom (GeoMFormer, Sec. 4),

    .. math::
        \mathrm{out} = \tilde C^{-1/2} X\,\mathrm{diag}(\gamma), \quad
        \tilde C = C + (\epsilon_\mathrm{rel}\,\mathrm{tr}\,C / 3 + \epsilon_\mathrm{abs})\,I, \quad C = X X^\top / d,

    after their mean was taken off. Equivariant under O(3) for every :math:`\epsilon`. The paper has no
    :math:`\epsilon_\mathrm{rel}`, but its first layer has :math:`C` of rank 1, and planar molecules have rank 2 in all.
    Computed in float32 at least, also under autocast.

    Args:
        channels (int): Vectors :math:`d` per atom.
        kind (str): :obj:`'whiten'`; :obj:`'rms'`, which divides by the root mean square; or :obj:`'none'`, which
            returns its input and has no parameters. (default: :obj:`'whiten'`)
        eps_rel (float): At least 1e-3 for the Newton–Schulz method. (default: :obj:`1e-3`)
        eps_abs (float): In squared units of the features. (default: :obj:`1e-8`)
        method (str): Of the root: :obj:`'sylvester'` or :obj:`'newton_schulz'`, see :mod:`ops.inverse_root`;
            :obj:`'auto'` takes the second where a compiler for GPUs can fuse it, and :func:`ops.whiten`, which does
            the same as the first in one pass, where that has a kernel. (default: :obj:`'auto'`)

    Shapes:
        - **input:** [N, 3, d]
        - **output:** [N, 3, d]

    Raises:
        ValueError: If :obj:`kind` or :obj:`method` is unknown, or an :obj:`eps` is out of range.
    """
    def __init__(self, channels: int, kind: str = 'whiten', eps_rel: float = 1e-3, eps_abs: float = 1e-8,
                 method: str = 'auto'):
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"'kind' must be one of {', '.join(KINDS)} (got '{kind}')")
        if method not in METHODS:
            raise ValueError(f"'method' must be one of {', '.join(METHODS)} (got '{method}')")
        if not eps_rel >= (1e-3 if method == 'newton_schulz' else 0):
            least = 'at least 1e-3 for Newton–Schulz' if method == 'newton_schulz' else 'not negative'
            raise ValueError(f"'eps_rel' must be {least} (got {eps_rel})")
        if not eps_abs > 0:
            raise ValueError(f"'eps_abs' must be positive (got {eps_abs})")
        self.channels, self.kind, self.eps_rel, self.eps_abs = channels, kind, eps_rel, eps_abs
        self.method = method
        if kind != 'none':
            self.weight = nn.Parameter(torch.ones(channels))

    def reset_parameters(self) -> None:
        if self.kind != 'none':
            nn.init.ones_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == 'none':
            return x
        with torch.autocast(x.device.type, enabled=False):
            x = x if x.dtype == torch.float64 else x.float()
            if self.kind == 'whiten' and self.method == 'auto' and has_kernel('whiten', x):
                return whiten(x, self.weight, self.eps_rel, self.eps_abs)
            x = x - x.mean(-1, keepdim=True)
            if self.kind == 'rms':
                return x * (x.square().sum((1, 2), keepdim=True) / (3 * self.channels) + self.eps_abs).rsqrt() \
                    * self.weight
            return (self.root(regularized_covariance(x, self.eps_rel, self.eps_abs)) @ x) * self.weight

    def root(self, c: Tensor) -> Tensor:
        r""":math:`\tilde C^{-1/2}` of regularised covariances [N, 3, 3]."""
        fuses = self.method == 'auto' and c.is_cuda and torch.compiler.is_compiling() and self.eps_rel >= 1e-3
        if fuses or self.method == 'newton_schulz':
            return inverse_root_newton_schulz(c)
        return inverse_root(c)

    def extra_repr(self) -> str:
        return f"{self.channels}, kind='{self.kind}'"
