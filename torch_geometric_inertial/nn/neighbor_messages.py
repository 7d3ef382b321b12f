r"""What the atoms around a place have to say of it, seen in its own coordinate system.

.. math::
    m_j^{(1)} = \sigma\big(W_1\, \sigma(W_f F(y_j) + \kappa_j)\big), \qquad
    m_j^{(r + 1)} = m_j^{(r)} + V_r\, \sigma\big(W_r m_j^{(r)} + U_r \textstyle\sum_k m_k^{(r)}\big), \qquad
    c = W_o \sum_j m_j^{(R)}

with :math:`\sigma = \mathrm{SiLU}`, positions :math:`y_j` in the axes of the place, their Fourier features :math:`F`,
and keys :math:`\kappa_j` that say what the atoms are. Since the axes turn with the molecule, so does all of this.
"""
from __future__ import annotations

import torch
from torch import Tensor, nn

from torch_geometric_inertial.nn.fourier import FourierFeatures

NUM_FEATURES = 24  # of a component: waves of 0.4 to 16 Å


class NeighborMessages(nn.Module):
    r"""See the module.

    Args:
        channels (int): Size :math:`W` of a message and of a key.
        out_channels (int): Size of the result.
        num_rounds (int): Rounds :math:`R` of messages, at least 1.

    Shapes:
        - **input:** offsets [T, K, 3] in Å, keys [T, K, W], which of them exist [T, K]
        - **output:** [T, out_channels] and the messages [T, K, W], zero for those that do not exist
    """
    def __init__(self, channels: int, out_channels: int, num_rounds: int):
        super().__init__()
        self.fourier = FourierFeatures(NUM_FEATURES, 0.4, 16.0)
        self.offset = nn.Linear(3 + 3 * NUM_FEATURES, channels)
        self.first = nn.Linear(channels, channels)
        self.own, self.others, self.update = (
            nn.ModuleList(nn.Linear(channels, channels) for _ in range(num_rounds - 1)) for _ in range(3))
        self.out = nn.Linear(channels, out_channels)

    def forward(self, offset: Tensor, key: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        exists = valid.unsqueeze(-1)
        with torch.autocast(offset.device.type, enabled=False):  # a coordinate needs more than 8 bits
            place = self.offset(torch.cat([offset, self.fourier(offset)], dim=-1).to(self.offset.weight.dtype))
        silu = nn.functional.silu
        message = silu(self.first(silu(place + key))) * exists
        for own, others, update in zip(self.own, self.others, self.update, strict=True):
            change = update(silu(own(message) + others(message.sum(dim=1, keepdim=True))))
            message = message + change * exists
        return self.out(message.sum(dim=1)), message
