r"""The Gaussian kernel on 3D positions, and its Nyström features."""
import torch
from torch import Tensor, nn

from torch_geometric_inertial.ops import nystrom_features


def gaussian_kernel(a: Tensor, b: Tensor, width: float | Tensor) -> Tensor:
    r""":math:`k_\sigma(a, b) = \exp(-|a - b|^2 / 2 \sigma^2)` for all pairs: [..., N, 3], [M, 3] -> [..., N, M]."""
    return torch.exp(-(a.unsqueeze(-2) - b).square().sum(-1) / (2 * width**2))


def checked_widths(widths: tuple[float, ...]) -> tuple[float, ...]:
    if not widths or min(widths) <= 0:
        raise ValueError(f"'widths' must be one or more positive lengths in Å (got {widths})")
    return tuple(widths)


def covering_landmarks(num_landmarks: int, extent: tuple[float, float, float]) -> Tensor:
    r"""A fixed quasi-random covering of an ellipsoid: the landmarks of a model that has not seen data.

    Args:
        num_landmarks (int): Number :math:`m` of landmarks.
        extent (tuple): Half-axes of the ellipsoid, in Å.

    Returns:
        Tensor: Landmarks [m, 3], float64.
    """
    root = 1.2207440846057596  # of x^4 = x + 1: the R3 low-discrepancy sequence
    steps = torch.tensor([root**-1, root**-2, root**-3], dtype=torch.float64)
    cube = ((torch.arange(8 * num_landmarks + 64, dtype=torch.float64).unsqueeze(1) * steps) % 1) * 2 - 1
    ball = cube[cube.norm(dim=1) < 1][:num_landmarks]
    return ball * torch.tensor(extent, dtype=torch.float64)


def kmeans_landmarks(pos: Tensor, num_landmarks: int, *, seed: int = 0, num_iter: int = 25) -> Tensor:
    r"""Landmarks from data: Lloyd's algorithm on up to 20,000 of the positions.

    Args:
        pos (Tensor): Atom positions [N, 3] in the frame that the model works in, Å.
        num_landmarks (int): Number :math:`m` of landmarks; at most N.
        seed (int): Seed of the draw of the start. (default: :obj:`0`)
        num_iter (int): Lloyd steps. (default: :obj:`25`)

    Returns:
        Tensor: Landmarks [m, 3], float64.

    Raises:
        ValueError: With fewer positions than landmarks.
    """
    if pos.size(0) < num_landmarks:
        raise ValueError(f"'pos' must hold at least num_landmarks = {num_landmarks} positions (got {pos.size(0)})")
    generator = torch.Generator().manual_seed(seed)
    pos = pos.detach().cpu().double()
    pos = pos[torch.randperm(pos.size(0), generator=generator)[:20_000]]
    landmarks = pos[:num_landmarks].clone()
    for _ in range(num_iter):
        nearest = torch.cdist(pos, landmarks).argmin(dim=1)
        count = torch.bincount(nearest, minlength=num_landmarks)
        total = torch.zeros_like(landmarks).index_add_(0, nearest, pos)
        landmarks = torch.where(count.unsqueeze(1) > 0, total / count.clamp(min=1).unsqueeze(1), landmarks)
    return landmarks


class NystromFeatures(nn.Module):
    r"""Finite features whose inner product is, nearly, a Gaussian of the distance.

    .. math::
        \phi_s(p) = k_s(p, Z)\, W_s^{-1/2}, \quad W_s = k_s(Z, Z) + \epsilon I, \quad
        \phi_s(p_i) \cdot \phi_s(p_j) \approx \exp(-|p_i - p_j|^2 / 2 \sigma_s^2)

    (Williams & Seeger 2001; InertialAR, arXiv:2510.27497, GeoRoPE.) All scales share the landmarks :math:`Z`, which are
    kept with the model: :meth:`fit` puts them where the atoms are.

    Args:
        widths (tuple): Kernel widths :math:`\sigma_s` in Å, one per scale. (default: :obj:`(1.0, 2.0, 4.0)`)
        num_landmarks (int): Landmarks :math:`m`. (default: :obj:`128`)
        extent (tuple): Half-axes (Å) of the ellipsoid covered before :meth:`fit`. (default: :obj:`(4.5, 3.0, 2.5)`)
        eps (float): The ridge :math:`\epsilon`. (default: :obj:`1e-6`)

    Shapes:
        - **input:** positions [..., 3]
        - **output:** features [..., S, m], float32 or the dtype of float64 positions
    """
    landmarks: Tensor
    whitening: Tensor

    def __init__(self, widths: tuple[float, ...] = (1.0, 2.0, 4.0), num_landmarks: int = 128,
                 extent: tuple[float, float, float] = (4.5, 3.0, 2.5), eps: float = 1e-6):
        super().__init__()
        self.widths, self.eps = checked_widths(widths), eps
        meta = torch.empty(0).device.type == 'meta'
        landmarks = torch.zeros(num_landmarks, 3) if meta else covering_landmarks(num_landmarks, extent)
        self.register_buffer('landmarks', landmarks.float())
        self.register_buffer('whitening', torch.zeros(len(widths), num_landmarks, num_landmarks))
        if not meta:
            self._whiten()

    @torch.no_grad()
    def _whiten(self) -> None:
        z = self.landmarks.double()
        for s, width in enumerate(self.widths):
            kernel = gaussian_kernel(z, z, width) + self.eps * torch.eye(len(z), dtype=z.dtype, device=z.device)
            value, vector = torch.linalg.eigh(kernel)
            self.whitening[s] = (vector * value.clamp(min=self.eps).rsqrt()) @ vector.mT  # W^{-1/2}, symmetric

    @torch.no_grad()
    def fit(self, pos: Tensor, *, seed: int = 0) -> 'NystromFeatures':
        r"""Moves the landmarks to the k-means centers of the positions [N, 3] and whitens anew."""
        self.landmarks.copy_(kmeans_landmarks(pos, self.landmarks.size(0), seed=seed))
        self._whiten()
        return self

    def forward(self, pos: Tensor) -> Tensor:
        landmarks, whitening = self.landmarks.to(pos.dtype), self.whitening.to(pos.dtype)
        phi = nystrom_features(pos.reshape(-1, 3), landmarks, whitening, self.widths)
        return phi.view(*pos.shape[:-1], len(self.widths), len(landmarks))

    def __repr__(self) -> str:
        return f'{type(self).__name__}(widths={self.widths}, num_landmarks={self.landmarks.size(0)})'


class GaussianKernel(nn.Module):
    r"""The Gaussian kernel itself, in the place of its Nyström features: what they approximate, at N² exponentials.

    Args:
        widths (tuple): Kernel widths :math:`\sigma_s` in Å, one per scale.

    Raises:
        ValueError: Without widths, or where one is not positive.
    """
    def __init__(self, widths: tuple[float, ...]):
        super().__init__()
        self.widths = checked_widths(widths)

    def features(self, pos: Tensor) -> Tensor:
        return pos

    def gram(self, query: Tensor, key: Tensor) -> Tensor:
        return torch.stack([gaussian_kernel(query, key.unsqueeze(-3), width) for width in self.widths], dim=1)


class NystromKernel(NystromFeatures):
    r""":class:`NystromFeatures` as attention uses them: [..., 3] -> [..., S * m], and one inner product per scale."""
    def features(self, pos: Tensor) -> Tensor:
        return self(pos).flatten(-2)

    def gram(self, query: Tensor, key: Tensor) -> Tensor:
        query, key = (x.unflatten(-1, (len(self.widths), -1)).transpose(1, 2) for x in (query, key))
        return query @ key.mT  # [B, S, Nq, Nk]
