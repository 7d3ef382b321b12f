r"""GeoRoPE attention of one new token per sequence against its cache."""
import math
from collections.abc import Callable

import torch
from torch import Tensor

from torch_geometric_inertial.ops.library import KERNELS, Example, example, has_kernel, register_fake

MOST_CHANNELS = {'cuda': 256}  #: The largest heads that the kernels of a device take; larger ones take the definition.


def georope_decode_gram_ref(phi: Tensor, slot: Tensor, num_scales: int, num_keys: int, features: Tensor) -> Tensor:
    r"""The definition of :func:`georope_decode_gram`, in plain PyTorch."""
    features[torch.arange(slot.numel(), device=slot.device), slot] = phi
    query, key = (x.unflatten(-1, (num_scales, -1)) for x in (phi, features[:, :num_keys]))
    seen = torch.arange(num_keys, device=slot.device) <= slot.unsqueeze(1)
    return torch.einsum('rsm,rlsm->rsl', query, key).masked_fill(~seen.unsqueeze(1), 0)


def georope_decode_gram(phi: Tensor, slot: Tensor, num_scales: int, num_keys: int, features: Tensor) -> Tensor:
    r"""Writes the kernel features of one new token per sequence into the cache and multiplies them with those seen,

    .. math:: K_{rsj} = \phi_s(p_r) \cdot \phi_s(p_{rj}), \quad j \le \mathrm{slot}_r .

    All layers of a model share the products. Works in place and without derivatives.

    Args:
        phi: New features [R, S * m], float32 or float64.
        slot: Where each of them goes, the number of tokens seen before [R], int64.
        num_scales: S.
        num_keys: Slots N to multiply with; above every slot.
        features: The cache [R, L, S * m], **written in place**.

    Returns:
        Tensor: Products [R, S, N]; zero behind the new token.

    Raises:
        ValueError: If shapes or types are wrong, a cache is an expanded tensor, or a derivative is asked.
    """
    _needs_no_grad('georope_decode_gram', phi, features)
    if phi.dim() != 2 or phi.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"'phi' must be [R, S * m] in float32 or float64 (got {list(phi.shape)}, {phi.dtype})")
    if num_scales < 1 or phi.size(1) % num_scales != 0:
        raise ValueError(f"'num_scales' must divide the {phi.size(1)} features of 'phi' (got {num_scales})")
    if features.dim() != 3 or features.shape[::2] != phi.shape or features.dtype != phi.dtype:
        raise ValueError(f"'features' must be [{phi.size(0)}, L, {phi.size(1)}] in {phi.dtype} "
                         f"(got {list(features.shape)}, {features.dtype})")
    _check_memory('features', features)
    if not 0 <= num_keys <= features.size(1):
        raise ValueError(f"'num_keys' must be from 0 to L = {features.size(1)} (got {num_keys})")
    _check_slot(slot, phi.size(0), num_keys)
    if has_kernel('georope_decode_gram', phi):
        return torch.ops.inertial.georope_decode_gram(phi, slot, num_scales, num_keys, features)
    return georope_decode_gram_ref(phi, slot, num_scales, num_keys, features)


def georope_decode_ref(q: Tensor, k: Tensor, v: Tensor, gram: Tensor, gain: Tensor, slot: Tensor, key: Tensor,
                       value: Tensor) -> Tensor:
    r"""The definition of :func:`georope_decode`, in plain PyTorch."""
    row, wide = torch.arange(slot.numel(), device=slot.device), gram.dtype
    key[row, slot], value[row, slot] = k.to(key.dtype), v.to(value.dtype)
    keys, values = (x[:, :gram.size(2)].to(wide) for x in (key, value))
    score = torch.einsum('rhd,rlhd->rhl', q.to(wide), keys) / math.sqrt(q.size(2))
    score = score + torch.einsum('hs,rsl->rhl', gain, gram)
    seen = torch.arange(gram.size(2), device=slot.device) <= slot.unsqueeze(1)
    prob = score.masked_fill(~seen.unsqueeze(1), -torch.inf).softmax(dim=-1)
    return torch.einsum('rhl,rlhd->rhd', prob, values).to(q.dtype)


def georope_decode(q: Tensor, k: Tensor, v: Tensor, gram: Tensor, gain: Tensor, slot: Tensor, key: Tensor,
                   value: Tensor) -> Tensor:
    r"""Writes one new key and value per sequence into the cache and attends to those seen,

    .. math::
        \mathrm{out}_{rh} = \sum_{j \le \mathrm{slot}_r}
        \mathrm{softmax}_j\Big(\frac{q_{rh} \cdot k_{rjh}}{\sqrt D} + \sum_s g_{hs} K_{rsj}\Big)\, v_{rjh} .

    Rows have lengths of their own; nothing behind a row's own slot is read. Works in place and without derivatives.

    Args:
        q: Rotated queries [R, H, D].
        k: Rotated keys of the same tokens [R, H, D].
        v: Their values [R, H, D].
        gram: Kernel products [R, S, N] from :func:`georope_decode_gram`; S may be 0.
        gain: Gains [H, S]; like :obj:`gram` in float32, or in float64 for float64 queries.
        slot: Where each new token goes, the number of tokens seen before [R], int64, below N.
        key: The cache of keys [R, L, H, D], **written in place**.
        value: The cache of values [R, L, H, D], **written in place**.

    Returns:
        Tensor: Outputs [R, H, D] in the type of the queries.

    Raises:
        ValueError: If shapes or types are wrong, a cache is an expanded tensor, or a derivative is asked.
    """
    _needs_no_grad('georope_decode', q, k, v, gram, gain, key, value)
    if q.dim() != 3 or k.shape != q.shape or v.shape != q.shape or not q.dtype == k.dtype == v.dtype:
        raise ValueError("'q', 'k' and 'v' must be [R, H, D] of one shape and type "
                         f"(got {', '.join(f'{list(x.shape)} {x.dtype}' for x in (q, k, v))})")
    rows, heads, size = q.shape
    if key.dim() != 4 or (key.size(0), *key.shape[2:]) != q.shape or value.shape != key.shape \
            or value.dtype != key.dtype:
        raise ValueError(f"'key' and 'value' must be caches [{rows}, L, {heads}, {size}] of one type "
                         f"(got {list(key.shape)} {key.dtype} and {list(value.shape)} {value.dtype})")
    _check_memory('key', key)
    _check_memory('value', value)
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    if (key.dtype == torch.float64) != (q.dtype == torch.float64):
        raise ValueError(f"'key' must be in float64 where 'q' is, and nowhere else (got {key.dtype} and {q.dtype})")
    if gram.dim() != 3 or gram.size(0) != rows or gram.size(2) > key.size(1) or gram.dtype != wide:
        raise ValueError(f"'gram' must be [{rows}, S, N <= {key.size(1)}] in {wide} "
                         f"(got {list(gram.shape)}, {gram.dtype})")
    if gain.shape != (heads, gram.size(1)) or gain.dtype != wide:
        raise ValueError(f"'gain' must be {[heads, gram.size(1)]} in {wide} (got {list(gain.shape)}, {gain.dtype})")
    _check_slot(slot, rows, gram.size(2))
    fits = size <= MOST_CHANNELS.get(q.device.type, size)
    if fits and has_kernel('georope_decode', q) and has_kernel('georope_decode', key):
        return torch.ops.inertial.georope_decode(q, k, v, gram, gain, slot, key, value)
    return georope_decode_ref(q, k, v, gram, gain, slot, key, value)


def _needs_no_grad(op: str, *inputs: Tensor) -> None:
    if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
        raise ValueError(f"'{op}' writes in place and has no derivative: call it under torch.no_grad()")


def _check_memory(name: str, cache: Tensor) -> None:
    if any(cache.stride(d) == 0 and cache.size(d) > 1 for d in (0, 1)) and cache.numel() > 0:
        raise ValueError(f"'{name}' must have memory of its own for each row and slot, since it is written in place "
                         f"(got an expanded tensor {list(cache.shape)})")


def _check_slot(slot: Tensor, num_rows: int, num_keys: int) -> None:
    if slot.shape != (num_rows, ) or slot.dtype != torch.int64:
        raise ValueError(f"'slot' must be int64 [{num_rows}] (got {list(slot.shape)}, {slot.dtype})")
    if slot.device.type != 'cpu' or torch.compiler.is_compiling() or num_rows == 0:
        return
    low, high = slot.aminmax()
    if low < 0 or high >= num_keys:
        raise ValueError(f"'slot' must be from 0 to {num_keys - 1} (got {int(low)} to {int(high)})")


@example('georope_decode_gram')
def _(normal: Callable[..., Tensor], device: torch.device) -> Example:
    slot = torch.tensor([0, 18, 7], device=device)
    return Example(lambda phi, cache: georope_decode_gram(phi, slot, 2, 19, cache),
                   lambda phi, cache: georope_decode_gram_ref(phi, slot, 2, 19, cache),
                   (normal(3, 40), normal(3, 24, 40)), derivatives=False)


@example('georope_decode')
def _(normal: Callable[..., Tensor], device: torch.device) -> Example:
    slot = torch.tensor([0, 18, 7], device=device)
    return Example(lambda *inputs: georope_decode(*inputs), georope_decode_ref,
                   (*(normal(3, 3, 20) for _ in range(3)), normal(3, 2, 19), normal(3, 2), slot,
                    *(normal(3, 24, 3, 20) for _ in range(2))), derivatives=False)


if 'georope_decode' in KERNELS['cpu']:
    @register_fake('georope_decode_gram')
    def _(phi: Tensor, slot: Tensor, num_scales: int, num_keys: int, features: Tensor) -> Tensor:
        return phi.new_empty(phi.size(0), num_scales, num_keys)

    @register_fake('georope_decode')
    def _(q: Tensor, k: Tensor, v: Tensor, gram: Tensor, gain: Tensor, slot: Tensor, key: Tensor,
          value: Tensor) -> Tensor:
        return q.new_empty(q.shape)
