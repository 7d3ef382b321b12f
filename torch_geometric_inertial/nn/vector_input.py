r"""The first vector features: a direction times functions of a length."""
from __future__ import annotations

from torch import Tensor, nn

from torch_geometric_inertial.nn.directions import directions, safe_length
from torch_geometric_inertial.nn.radial_basis import GaussianBasis


class VectorInput(nn.Module):
    r""":math:`\hat x_i \otimes \psi(\|x_i\|, z_i)\,W` of one vector per atom (GeoMFormer, Sec. 4), such as the position
    from the centroid or the velocity.

    The direction of a short vector is softened, :math:`x / \sqrt{\|x\|^2 + \delta^2}`: without that it jumps where an
    atom passes the centroid, and forces with it.

    Args:
        basis (GaussianBasis): Of the length and the type of the atom.
        channels (int): Width d.
        softening (float): :math:`\delta`, in the unit of the vectors.
    """
    def __init__(self, basis: GaussianBasis, channels: int, softening: float):
        super().__init__()
        self.basis, self.softening = basis, softening
        self.out = nn.Linear(basis.num_kernels, channels, bias=False)

    def forward(self, x: Tensor, types: Tensor) -> Tensor:
        radial = self.out(self.basis(safe_length(x, self.softening), types))
        return directions(x, self.softening).unsqueeze(-1) * radial.unsqueeze(1)
