r"""Rotary position embedding on real 3D coordinates (RoPE-3D)."""
import math

import torch
from torch import Tensor


def rotary_frequencies(head_channels: int, shortest: float = 0.5, longest: float = 60.0) -> Tensor:
    r"""The geometric band :math:`\omega_k` of :math:`K = \lfloor D / 6 \rfloor` angular frequencies per axis.

    Args:
        head_channels (int): The size :math:`D` of an attention head.
        shortest (float): The shortest wave length, in Å. (default: :obj:`0.5`)
        longest (float): The longest wave length, in Å. (default: :obj:`60.0`)

    Returns:
        Tensor: Frequencies [K] in rad/Å, float32, descending.
    """
    steps = torch.linspace(0, 1, max(head_channels // 6, 1), dtype=torch.float64)[:head_channels // 6]
    wave_length = shortest * (longest / shortest)**steps
    return (2 * math.pi / wave_length).float()


def rotary_phases(pos: Tensor, freqs: Tensor, head_channels: int) -> Tensor:
    r"""The angle :math:`p_{t,a}\,\omega_k` of each feature pair; pairs that are left over do not turn.

    Args:
        pos (Tensor): Positions [..., 3] in Å.
        freqs (Tensor): Frequencies [K] in rad/Å.
        head_channels (int): The size :math:`D` of a head.

    Returns:
        Tensor: Phases [..., D / 2] in rad.
    """
    angle = (pos.to(freqs.dtype).unsqueeze(-1) * freqs).flatten(-2)  # [..., 3K], axis-major
    return torch.nn.functional.pad(angle, (0, head_channels // 2 - angle.size(-1)))
