r"""The two normalizations of transformer tokens."""
from torch import nn


def make_norm(name: str, channels: int) -> nn.Module:
    r"""A normalization with a gain and no bias, :math:`\epsilon = 10^{-5}`.

    Args:
        name (str): :obj:`'rms'` or :obj:`'layer'`.
        channels (int): Size of the last dimension.

    Raises:
        ValueError: If there is no such normalization.
    """
    if name not in ('rms', 'layer'):
        raise ValueError(f"'norm' must be 'rms' or 'layer' (got '{name}')")
    return nn.RMSNorm(channels, eps=1e-5) if name == 'rms' else nn.LayerNorm(channels, eps=1e-5, bias=False)
