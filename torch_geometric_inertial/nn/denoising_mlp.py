r"""The network of the diffusion head: an MLP whose layers are modulated by the condition and the noise level."""
from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from torch_geometric_inertial.nn.fourier import FourierFeatures
from torch_geometric_inertial.nn.pair_field import NeighborContext, PairField

MODULATIONS = ('each', 'shared', 'additive')


class AdaLNBlock(nn.Module):
    r""":math:`e + g \odot W_2\, \mathrm{SiLU}(W_1 (\mathrm{LN}(e) (1 + s) + b))`, with :math:`(b, s, g)` given."""
    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, channels))

    def forward(self, e: Tensor, modulation: Tensor) -> Tensor:
        shift, scale, gate = modulation.chunk(3, dim=-1)
        return torch.addcmul(e, gate, self.mlp(torch.addcmul(shift, self.norm(e), 1 + scale)))


class DenoisingMLP(nn.Module):
    r"""An AdaLN MLP (Li et al. 2024, MAR): a noisy coordinate, its noise level and a condition to a 3-vector.

    The modulation :math:`m_l` of block :math:`l` (and of the last layer) comes from the condition :math:`c` and an
    embedding :math:`n` of the noise level:

    - :obj:`'each'`: :math:`m_l = W_l\, \mathrm{SiLU}(c + n)`, as published;
    - :obj:`'shared'`: :math:`m_l = W\, \mathrm{SiLU}(c + n) + o_l` (PixArt-α's adaLN-single);
    - :obj:`'additive'`: :math:`m_l = W_l\, \mathrm{SiLU}(c) + V n`: the large product once an atom, whatever the
      number of noise levels.

    Args:
        channels (int): Width :math:`W`.
        num_layers (int): Residual blocks.
        modulation (str): See above. (default: :obj:`'additive'`)
        coord_fourier (Module, optional): Features of each component. (default: 32
            :class:`~torch_geometric_inertial.nn.fourier.FourierFeatures`)
        coord_layers (int): Layers of the map of the coordinate's Fourier features. (default: :obj:`1`)
        noise_fourier (Module, optional): Features of the noise level. (default: 64 of them)
        noise_mlp (Module, optional): From there to :math:`n` [..., W], or :math:`V n` [..., 5W] where additive, of
            which the last layer then starts at zero. (default: two linear layers)
        pair_channels (int): Width of the :class:`~torch_geometric_inertial.nn.pair_field.PairField` that shows it the
            atoms around; 0 for none. (default: :obj:`0`)

    Shapes:
        - **input:** scaled coordinates [..., T, 3], :math:`\ln \sigma / 4` [..., T, 1], conditions [T, W], coordinates
          [..., T, 3] in Å, the atoms around
        - **output:** [..., T, 3], float32

    Raises:
        ValueError: If there is no such modulation.
    """
    def __init__(self, channels: int, num_layers: int, *, modulation: str = 'additive',
                 coord_fourier: nn.Module | None = None, coord_layers: int = 1,
                 noise_fourier: nn.Module | None = None, noise_mlp: nn.Module | None = None, pair_channels: int = 0):
        super().__init__()
        if modulation not in MODULATIONS:
            raise ValueError(f"'modulation' must be one of {', '.join(MODULATIONS)} (got '{modulation}')")
        self.channels, self.modulation = channels, modulation
        self.coord_fourier = FourierFeatures(32, 0.1, 8.0) if coord_fourier is None else coord_fourier
        self.noise_fourier = FourierFeatures(64, 0.2, 8.0) if noise_fourier is None else noise_fourier
        self.coord_linear = nn.Linear(3, channels)
        layers: list[nn.Module] = [nn.Linear(3 * self.coord_fourier.num_features, channels)]
        for _ in range(coord_layers - 1):
            layers += [nn.SiLU(), nn.Linear(channels, channels)]
        self.coord_mlp = nn.Sequential(*layers)
        self.noise_mlp = self._noise_mlp(self.noise_fourier.num_features) if noise_mlp is None else noise_mlp
        self.blocks = nn.ModuleList(AdaLNBlock(channels) for _ in range(num_layers))
        self.modulations = nn.ModuleList(
            nn.Linear(channels, 3 * channels) for _ in range(1 if modulation == 'shared' else num_layers))
        self.offset = nn.Parameter(torch.empty(num_layers, 3 * channels)) if modulation == 'shared' else None
        self.final_modulation = nn.Linear(channels, 2 * channels)
        self.final_norm = nn.LayerNorm(channels, eps=1e-6, elementwise_affine=False)
        self.final_linear = nn.Linear(channels, 3)
        self.field = PairField(channels, pair_channels) if pair_channels > 0 else None
        self.reset_parameters()

    def _noise_mlp(self, num_features: int) -> nn.Module:
        size, out = self.channels, self.channels
        if self.modulation == 'additive':
            size, out = num_features // 2, 5 * self.channels  # smooth in one number: few hidden units are enough
        return nn.Sequential(nn.Linear(num_features, size), nn.SiLU(), nn.Linear(size, out))

    def reset_parameters(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for linear in [*self.modulations, self.final_modulation, self.final_linear]:
            nn.init.zeros_(linear.weight)
        if self.modulation == 'additive':
            nn.init.zeros_(self.noise_mlp[-1].weight)
        if self.offset is not None:
            nn.init.zeros_(self.offset)
        if self.field is not None:
            self.field.reset_parameters()

    def forward(self, u: Tensor, noise_level: Tensor, cond: Tensor, x: Tensor,
                neighbors: NeighborContext | None) -> Tensor:
        with torch.autocast(u.device.type, enabled=False):  # a coordinate needs more than 8 bits
            e = self.coord_linear(u.to(self.coord_linear.weight.dtype)) + self.coord_mlp[0](self.coord_fourier(u))
        for layer in self.coord_mlp[1:]:
            e = layer(e)
        force = None
        if self.field is not None and neighbors is not None:
            message, force = self.field(x, noise_level, neighbors)
            e = e + message
        modulations = self.modulate(cond, self.noise_mlp(self.noise_fourier(noise_level)))
        e = e.to(cond.dtype)  # the output may be coarse: the preconditioning multiplies it by c_out < sigma
        for block in self.blocks:
            e = block(e, next(modulations))
        shift, scale = next(modulations).chunk(2, dim=-1)
        e = torch.addcmul(shift, self.final_norm(e), 1 + scale)
        with torch.autocast(u.device.type, enabled=False):
            out = self.final_linear(e.to(self.final_linear.weight.dtype))
        return out if force is None else out + force

    def modulate(self, cond: Tensor, noise: Tensor) -> Iterator[Tensor]:
        r"""The modulations of the blocks [..., T, 3W] and of the last layer [..., T, 2W], of conditions and embedded
        noise levels."""
        if self.modulation == 'additive':
            y = nn.functional.silu(cond)
            block_noise, final_noise = noise.split([3 * self.channels, 2 * self.channels], dim=-1)
            for linear in self.modulations:
                yield linear(y) + block_noise
            yield self.final_modulation(y) + final_noise
            return
        y = nn.functional.silu(cond + noise)
        if self.offset is not None:
            shared = self.modulations[0](y)
            for offset in self.offset.to(y.dtype):
                yield shared + offset
        else:
            for linear in self.modulations:
                yield linear(y)
        yield self.final_modulation(y)
