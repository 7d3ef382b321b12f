r"""The network of the diffusion head: an MLP whose layers are modulated by the condition and the noise level."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from torch_geometric_inertial.nn.fourier import FourierFeatures
from torch_geometric_inertial.nn.pair_field import PairField, Pairs


class AdaLNBlock(nn.Module):
    r""":math:`e + g \odot W_2\, \mathrm{SiLU}(W_1 (\mathrm{LN}(e) (1 + s) + b))`, with :math:`(b, s, g)` given."""
    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, channels))

    def forward(self, e: Tensor, modulation: Tensor) -> Tensor:
        shift, scale, gate = modulation.chunk(3, dim=-1)
        return e + gate * self.mlp(torch.addcmul(shift, self.norm(e), 1 + scale))


class DenoisingMLP(nn.Module):
    r"""An AdaLN MLP (Li et al. 2024, MAR): a noisy coordinate, its noise level and a condition to a 3-vector.

    Args:
        channels (int): Width :math:`W`.
        num_layers (int): Residual blocks.
        shared_modulation (bool): One modulation for all blocks plus a learned offset each (PixArt-α's adaLN-single)
            instead of one linear layer a block: half of the work. (default: :obj:`True`)
        coord_features (int): Fourier features per component. (default: :obj:`32`)
        noise_features (int): Fourier features of the noise level. (default: :obj:`64`)
        coord_layers (int): Layers of the map of the coordinate's Fourier features. (default: :obj:`1`)
        pair_channels (int): Width of the :class:`~torch_geometric_inertial.nn.pair_field.PairField` that shows it the
            atoms around; 0 for none. (default: :obj:`0`)

    Shapes:
        - **input:** scaled coordinates [..., 3], :math:`\ln \sigma / 4` [..., 1], conditions [..., W], coordinates
          [..., 3] in Å, the atoms around
        - **output:** [..., 3], float32
    """
    def __init__(self, channels: int, num_layers: int, *, shared_modulation: bool = True, coord_features: int = 32,
                 noise_features: int = 64, coord_layers: int = 1, pair_channels: int = 0):
        super().__init__()
        self.coord_fourier = FourierFeatures(coord_features, 0.1, 8.0)
        self.noise_fourier = FourierFeatures(noise_features, 0.2, 8.0)
        self.coord_linear = nn.Linear(3, channels)
        layers: list[nn.Module] = [nn.Linear(3 * coord_features, channels)]
        for _ in range(coord_layers - 1):
            layers += [nn.SiLU(), nn.Linear(channels, channels)]
        self.coord_mlp = nn.Sequential(*layers)
        self.noise_mlp = nn.Sequential(nn.Linear(noise_features, channels), nn.SiLU(), nn.Linear(channels, channels))
        self.blocks = nn.ModuleList(AdaLNBlock(channels) for _ in range(num_layers))
        self.modulations = nn.ModuleList(
            nn.Linear(channels, 3 * channels) for _ in range(1 if shared_modulation else num_layers))
        self.offset = nn.Parameter(torch.empty(num_layers, 3 * channels)) if shared_modulation else None
        self.final_modulation = nn.Linear(channels, 2 * channels)
        self.final_norm = nn.LayerNorm(channels, eps=1e-6, elementwise_affine=False)
        self.final_linear = nn.Linear(channels, 3)
        self.field = PairField(channels, pair_channels) if pair_channels > 0 else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for linear in [*self.modulations, self.final_modulation, self.final_linear]:
            nn.init.zeros_(linear.weight)
        if self.offset is not None:
            nn.init.zeros_(self.offset)
        if self.field is not None:
            self.field.reset_parameters()

    def forward(self, u: Tensor, noise_level: Tensor, cond: Tensor, x: Tensor, pairs: Pairs | None) -> Tensor:
        with torch.autocast(u.device.type, enabled=False):  # a coordinate needs more than 8 bits
            e = self.coord_linear(u.float()) + self.coord_mlp[0](self.coord_fourier(u))
        for layer in self.coord_mlp[1:]:
            e = layer(e)
        y = nn.functional.silu(cond + self.noise_mlp(self.noise_fourier(noise_level)))
        force = None
        if self.field is not None and pairs is not None:
            message, force = self.field(x, noise_level, pairs)
            e = e + message
        e = e.to(y.dtype)  # the output may be coarse: the preconditioning multiplies it by c_out < sigma
        if self.offset is not None:
            shared = self.modulations[0](y)
            for block, offset in zip(self.blocks, self.offset.to(y.dtype), strict=True):
                e = block(e, shared + offset)
        else:
            for block, modulation in zip(self.blocks, self.modulations, strict=True):
                e = block(e, modulation(y))
        shift, scale = self.final_modulation(y).chunk(2, dim=-1)
        e = torch.addcmul(shift, self.final_norm(e), 1 + scale)
        with torch.autocast(u.device.type, enabled=False):
            out = self.final_linear(e.float())
        return out if force is None else out + force
