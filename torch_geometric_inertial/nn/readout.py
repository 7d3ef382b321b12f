r"""From an atom's features to numbers and vectors."""
from __future__ import annotations

from torch import Tensor, nn

from torch_geometric_inertial.nn.equivariant_norm import EquivariantLayerNorm


class ScalarReadout(nn.Module):
    r"""Layer norm and one hidden layer: scalars [N, S] of features [N, d].

    Args:
        channels (int): Width d.
        num_scalars (int): S.
    """
    def __init__(self, channels: int, num_scalars: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.hidden, self.out = nn.Linear(channels, channels), nn.Linear(channels, num_scalars)

    def forward(self, s: Tensor) -> Tensor:
        return self.out(nn.functional.gelu(self.hidden(self.norm(s))))


class VectorReadout(nn.Module):
    r""":math:`y_i = ((\mathrm{norm}(E_i) A) \odot \mathrm{MLP}(\mathrm{LN}(I_i)))\,b`: one vector [N, 3] per atom from
    features [N, d] and vectors [N, 3, d].

    Args:
        channels (int): Width d.
        num_streams (int): Streams of vectors, which have an :math:`A` each.
        norm (str): Of the vectors, see :class:`~torch_geometric_inertial.nn.EquivariantLayerNorm`.
    """
    def __init__(self, channels: int, num_streams: int, norm: str):
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.gate = nn.Sequential(nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, channels))
        self.equ_norm = nn.ModuleList(EquivariantLayerNorm(channels, norm, eps_abs=0.1) for _ in range(num_streams))
        self.hidden = nn.ModuleList(nn.Linear(channels, channels, bias=False) for _ in range(num_streams))
        self.out = nn.Linear(channels, 1, bias=False)

    def forward(self, s: Tensor, v: list[Tensor]) -> Tensor:
        hidden = sum(hidden(norm(x)) for norm, hidden, x in zip(self.equ_norm, self.hidden, v, strict=True))
        return self.out(hidden * self.gate(self.norm(s)).unsqueeze(1)).squeeze(-1)
