r"""Attention among the atoms of each molecule, with a bias of every pair's score."""
from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from torch_geometric_inertial.ops.library import KERNELS, Example, example, has_kernel, register_fake
from torch_geometric_inertial.ops.segment import segment_index
from torch_geometric_inertial.ops.through_reference import third_grad_through_reference


def pair_attention_ref(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, ptr: Tensor, scale: float,
                       heads: int) -> Tensor:
    r"""The definition of :func:`pair_attention`, in plain PyTorch."""
    count, longest, parts, size = ptr.numel() - 1, bias.size(-1), q.size(1), q.size(2) // heads
    batch = segment_index(ptr, q.size(0))
    place = batch * longest + torch.arange(q.size(0), device=q.device) - ptr[batch]
    mask = (torch.arange(longest, device=q.device) < ptr.diff().unsqueeze(1)).view(count, 1, 1, longest)

    def heads_first(x: Tensor) -> Tensor:
        padded = x.new_zeros(count * longest, *x.shape[1:]).index_copy(0, place, x)
        return padded.view(count, longest, parts, heads, size).permute(0, 3, 1, 2, 4).flatten(3)

    q, k, v = heads_first(q), heads_first(k), heads_first(v)
    score = scale * (q @ k.mT) + bias.view(count, heads, longest, longest)
    weight = score.masked_fill(~mask, -1e30).softmax(-1)  # finite: molecules without atoms have nothing else
    out = (weight @ v).unflatten(-1, (parts, size)).permute(0, 2, 3, 1, 4).flatten(3)
    return out.flatten(0, 1).index_select(0, place)


def pair_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, ptr: Tensor, scale: float, heads: int) -> Tensor:
    r"""Multi-head attention of A features per channel within each molecule,

    .. math:: \mathrm{out}_i = \sum_j \mathrm{softmax}_j(c \langle q_i, k_j \rangle + B_{ij})\,v_j .

    Differentiable any number of times; the first two derivatives are compiled, too, and keep nothing but the inputs.

    Args:
        q, k, v: [N, A, C], float32 or float64; scores sum over A.
        bias: :math:`B` [B · H, n, n] of the same type, n being the most atoms of a molecule or more.
        ptr: Offsets [B + 1] of the molecules, int64.
        scale: The factor c.
        heads: H, which divides C.

    Returns:
        [N, A, C].

    Raises:
        ValueError: If shapes or types are wrong.
    """
    if q.dim() != 3 or q.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"'q' must be [N, A, C], float32 or float64 (got {list(q.shape)}, {q.dtype})")
    for name, x in (('k', k), ('v', v)):
        if x.shape != q.shape or x.dtype != q.dtype:
            raise ValueError(f"'{name}' must be {list(q.shape)}, {q.dtype}, like 'q' (got {list(x.shape)}, {x.dtype})")
    if heads < 1 or q.size(2) % heads:
        raise ValueError(f"'heads' must divide the {q.size(2)} channels (got {heads})")
    if ptr.dim() != 1 or ptr.numel() == 0 or ptr.dtype != torch.int64:
        raise ValueError(f"'ptr' must be int64 offsets [B + 1] (got {list(ptr.shape)}, {ptr.dtype})")
    count = (ptr.numel() - 1) * heads
    if bias.dim() != 3 or bias.size(0) != count or bias.size(1) != bias.size(2) or bias.dtype != q.dtype:
        raise ValueError(f"'bias' must be [{count}, n, n], {q.dtype} (got {list(bias.shape)}, {bias.dtype})")
    if has_kernel('pair_attention', q):
        return torch.ops.inertial.pair_attention(q, k, v, bias, ptr, scale, heads)
    return pair_attention_ref(q, k, v, bias, ptr, scale, heads)


@example('pair_attention')
def _(normal: Callable[..., Tensor], device: torch.device) -> Example:
    ptr = torch.tensor([0, 5, 5, 23], device=device)
    return Example(lambda q, k, v, bias: pair_attention(q, k, v, bias, ptr, 0.5, 3),
                   lambda q, k, v, bias: pair_attention_ref(q, k, v, bias, ptr, 0.5, 3),
                   (normal(23, 3, 12), normal(23, 3, 12), normal(23, 3, 12), normal(9, 18, 18)))


if 'pair_attention' in KERNELS['cpu']:
    @register_fake('pair_attention')
    def _(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, ptr: Tensor, scale: float, heads: int) -> Tensor:
        return q.new_empty(q.shape)

    @register_fake('pair_attention_backward')
    def _(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, ptr: Tensor, scale: float,
          heads: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return q.new_empty(q.shape), q.new_empty(q.shape), q.new_empty(q.shape), q.new_empty(bias.shape)

    @register_fake('pair_attention_backward_backward')
    def _(ddq: Tensor, ddk: Tensor, ddv: Tensor, ddbias: Tensor, grad: Tensor, q: Tensor, k: Tensor, v: Tensor,
          bias: Tensor, ptr: Tensor, scale: float, heads: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        dgrad, dq, dk, dv = (q.new_empty(q.shape) for _ in range(4))
        return dgrad, dq, dk, dv, q.new_empty(bias.shape)

    def _setup(ctx, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:5])
        ctx.settings = inputs[5:]

    def _backward(ctx, grad: Tensor) -> tuple:
        grads = torch.ops.inertial.pair_attention_backward(grad, *ctx.saved_tensors, *ctx.settings)
        return *grads, None, None, None

    def _setup_backward(ctx, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs[:6])
        ctx.settings = inputs[6:]

    def _double_backward(ctx, *cotangents: Tensor) -> tuple:
        grads = torch.ops.inertial.pair_attention_backward_backward(*cotangents, *ctx.saved_tensors, *ctx.settings)
        return *grads, None, None, None

    def _setup_double_backward(ctx, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs[:10])
        ctx.settings = dict(zip(('scale', 'heads'), inputs[10:], strict=True))

    def _triple_backward(ctx, *grads: Tensor) -> tuple:
        *tensors, ptr = ctx.saved_tensors
        reference = partial(pair_attention_ref, ptr=ptr, **ctx.settings)
        return *third_grad_through_reference(reference, grads, *tensors), None, None, None

    torch.library.register_autograd('inertial::pair_attention', _backward, setup_context=_setup)
    torch.library.register_autograd('inertial::pair_attention_backward', _double_backward,
                                    setup_context=_setup_backward)
    torch.library.register_autograd('inertial::pair_attention_backward_backward', _triple_backward,
                                    setup_context=_setup_double_backward)
