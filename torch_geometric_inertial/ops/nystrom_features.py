r"""Nyström features of Gaussian kernels on 3D positions."""
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from torch_geometric_inertial.ops.library import KERNELS, Example, example, has_kernel, register_fake
from torch_geometric_inertial.ops.through_reference import grad_through_reference


def nystrom_features_ref(pos: Tensor, landmarks: Tensor, whitening: Tensor, width: Sequence[float]) -> Tensor:
    r"""The definition of :func:`nystrom_features`, in plain PyTorch."""
    square = (pos.unsqueeze(1) - landmarks).square().sum(-1)  # [T, m]
    return torch.cat([torch.exp(square / (-2 * w**2)) @ whitening[s] for s, w in enumerate(width)], dim=1)


def nystrom_features_pos_ref(grad: Tensor, pos: Tensor, landmarks: Tensor, whitening: Tensor,
                             width: Sequence[float]) -> Tensor:
    r"""The gradient of :func:`nystrom_features` in :obj:`pos`, in plain PyTorch."""
    apart = landmarks - pos.unsqueeze(1)  # [T, m, 3]
    square, grad = apart.square().sum(-1), grad.unflatten(1, (len(width), -1))
    pull = [(grad[:, s] @ whitening[s].mT) * torch.exp(square / (-2 * w**2)) / w**2 for s, w in enumerate(width)]
    return torch.einsum('stm,tma->ta', torch.stack(pull), apart)


def nystrom_features(pos: Tensor, landmarks: Tensor, whitening: Tensor, width: Sequence[float]) -> Tensor:
    r"""Features whose inner product is, nearly, a Gaussian of the distance, one block of :math:`m` a scale,

    .. math:: \phi_{s}(p) = k_s(p, Z)\, A_s, \quad k_s(p, z) = \exp(-|p - z|^2 / 2 \sigma_s^2) .

    :math:`A_s A_s^T` is the inverse of :math:`k_s(Z, Z)` (Williams & Seeger 2001). Differentiable any number of times
    in every tensor; only the first derivative in :obj:`pos` has a kernel of its own.

    Args:
        pos: Positions [T, 3] in Å, float32 or float64.
        landmarks: Landmarks :math:`Z` [m, 3] in Å.
        whitening: The matrices :math:`A_s` [S, m, m].
        width: Kernel widths :math:`\sigma_s` in Å, S of them.

    Returns:
        Tensor: Features [T, S * m].

    Raises:
        ValueError: If shapes, types or widths are wrong.
    """
    if pos.dim() != 2 or pos.size(1) != 3 or pos.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"'pos' must be [T, 3] in float32 or float64 (got {list(pos.shape)}, {pos.dtype})")
    if landmarks.dim() != 2 or landmarks.size(1) != 3 or landmarks.dtype != pos.dtype:
        raise ValueError(f"'landmarks' must be [m, 3] in {pos.dtype} (got {list(landmarks.shape)}, {landmarks.dtype})")
    if whitening.shape != (len(width), len(landmarks), len(landmarks)) or whitening.dtype != pos.dtype:
        raise ValueError(f"'whitening' must be {[len(width), len(landmarks), len(landmarks)]} in {pos.dtype} "
                         f"(got {list(whitening.shape)}, {whitening.dtype})")
    if not width or min(width) <= 0:
        raise ValueError(f"'width' must be one or more positive lengths in Å (got {width})")
    if has_kernel('nystrom_features', pos):
        return torch.ops.inertial.nystrom_features(pos, landmarks, whitening, width)
    with torch.autocast(pos.device.type, enabled=False):  # large terms cancel, 8 bits do not do
        return nystrom_features_ref(pos, landmarks, whitening, width)


@example('nystrom_features')
def _(normal: Callable[..., Tensor], device: torch.device) -> Example:
    landmarks, whitening, width = 2 * normal(20, 3), normal(2, 20, 20), (1.0, 2.5)
    return Example(lambda pos: nystrom_features(pos, landmarks.to(pos), whitening.to(pos), width),
                   lambda pos: nystrom_features_ref(pos, landmarks.to(pos), whitening.to(pos), width),
                   (normal(23, 3), ))


if 'nystrom_features' in KERNELS['cpu']:
    @register_fake('nystrom_features')
    def _(pos: Tensor, landmarks: Tensor, whitening: Tensor, width: list[float]) -> Tensor:
        return pos.new_empty(pos.size(0), whitening.size(0) * whitening.size(1))

    @register_fake('nystrom_features_pos')
    def _(grad: Tensor, pos: Tensor, landmarks: Tensor, whitening: Tensor, width: list[float]) -> Tensor:
        return pos.new_empty(pos.shape)

    def _setup(ctx, inputs: tuple[Tensor, Tensor, Tensor, list[float]], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.width = inputs[3]

    def _backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs, width = ctx.saved_tensors, ctx.width
        if any(ctx.needs_input_grad[1:3]):
            return *grad_through_reference(partial(nystrom_features_ref, width=width), grad, *inputs), None
        return torch.ops.inertial.nystrom_features_pos(grad, *inputs, width), None, None, None

    def _setup_pos(ctx, inputs: tuple[Tensor, Tensor, Tensor, Tensor, list[float]], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:4])
        ctx.width = inputs[4]

    def _backward_pos(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        reference = partial(nystrom_features_pos_ref, width=ctx.width)
        return *grad_through_reference(reference, grad, *ctx.saved_tensors), None

    torch.library.register_autograd('inertial::nystrom_features', _backward, setup_context=_setup)
    torch.library.register_autograd('inertial::nystrom_features_pos', _backward_pos, setup_context=_setup_pos)
