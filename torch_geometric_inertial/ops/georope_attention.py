r"""GeoRoPE attention over packed sequences: rotary on coordinates plus gained Nyström kernels in one softmax."""
import math
from collections.abc import Callable

import torch
from torch import Tensor

from torch_geometric_inertial.ops.library import KERNELS, Example, example, has_kernel, register_fake
from torch_geometric_inertial.ops.rope_rotate import rope_rotate_ref
from torch_geometric_inertial.ops.segment import segment_index

MOST_CHANNELS = {'cuda': 128}  #: The largest heads that the kernels of a device take; larger ones take the definition.


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """What positions, features and sums are held in: never below float32."""
    return torch.promote_types(dtype, torch.float32)


def georope_attention_ref(q: Tensor, k: Tensor, v: Tensor, pos: Tensor, phi: Tensor | None, gain: Tensor,
                          scale_ptr: Tensor, freqs: Tensor, ptr: Tensor, causal: bool = True,
                          gram: Tensor | None = None) -> tuple[Tensor, Tensor]:
    r"""The definition of :func:`georope_attention`, in plain PyTorch on padded sequences."""
    dtype, (total, _, size) = compute_dtype(q.dtype), q.shape
    length = ptr.diff()
    num, longest = length.numel(), int(length.max()) if length.numel() else 0
    batch = segment_index(ptr, total)
    slot = torch.arange(total, device=ptr.device) - ptr[batch]
    flat = batch * longest + slot

    def pad(x: Tensor) -> Tensor:
        out = x.new_zeros(num * longest, *x.shape[1:]).index_copy(0, flat, x)
        return out.view(num, longest, *x.shape[1:])

    angle = (pos.unsqueeze(-1) * freqs).flatten(-2)  # [T, 3K], axis-major
    phase = torch.nn.functional.pad(angle, (0, size // 2 - angle.size(-1)))
    q, k = (rope_rotate_ref(x.to(dtype), phase) for x in (q, k))
    query, key, value = (pad(x).transpose(1, 2) for x in (q, k, v.to(dtype)))
    score = query @ key.mT / math.sqrt(size)  # [B, H, N, N]
    if gram is not None:
        score = score + torch.einsum('hs,bjsi->bhij', gain, pad(gram)[..., :longest])
    elif phi is not None:
        for s, part in enumerate(pad(phi).split(scale_ptr.diff().tolist(), dim=-1)):
            score = score + gain[:, s].view(-1, 1, 1) * (part @ part.mT).unsqueeze(1)
    place = torch.arange(longest, device=ptr.device)
    seen = (place < length.unsqueeze(1)).unsqueeze(1)
    if causal:
        seen = seen & (place <= place.unsqueeze(1))
    score = score.masked_fill(~seen.unsqueeze(1), -1e30)
    lse = score.logsumexp(-1)
    out = (score - lse.unsqueeze(-1)).exp() @ value
    out, lse = (x.transpose(1, 2).flatten(0, 1).index_select(0, flat) for x in (out, lse.unsqueeze(-1)))
    return out.to(v.dtype), lse.squeeze(-1)


def georope_gram_ref(phi: Tensor, scale_ptr: Tensor, ptr: Tensor, max_length: int) -> Tensor:
    r"""The definition of :func:`georope_gram`, in plain PyTorch."""
    batch = segment_index(ptr, phi.size(0))
    place = torch.arange(max_length, device=ptr.device)
    inside = place < ptr.diff()[batch].unsqueeze(1)  # [T, L]
    other = phi[(ptr[batch].unsqueeze(1) + place).clamp(max=max(phi.size(0) - 1, 0))]  # [T, L, M]
    parts = [torch.einsum('tm,tlm->tl', a, b) for a, b in
             zip(*(x.split(scale_ptr.diff().tolist(), dim=-1) for x in (phi, other)), strict=True)]
    gram = torch.stack(parts, dim=1) if parts else phi.new_zeros(phi.size(0), 0, max_length)
    return gram.masked_fill(~inside.unsqueeze(1), 0)


def georope_attention(q: Tensor, k: Tensor, v: Tensor, pos: Tensor, phi: Tensor | None, gain: Tensor,
                      scale_ptr: Tensor, freqs: Tensor, ptr: Tensor, causal: bool = True,
                      gram: Tensor | None = None) -> tuple[Tensor, Tensor]:
    r"""Attention within each sequence of a packed batch, with the score

    .. math::
        S_{ij} = \frac{(R(p_i) q_i) \cdot (R(p_j) k_j)}{\sqrt D} + \sum_s g_{h,s}\, \phi_s(p_i) \cdot \phi_s(p_j) .

    Pair (2k, 2k + 1) of axis a turns by :math:`p_a \omega_k`, axis after axis; what is left over does not turn.
    Differentiable any number of times in all but :obj:`freqs`. On the CPU the result does not depend on the number of
    threads, and memory grows with T, not with the squares of the lengths.

    Args:
        q, k, v: Heads [T, H, D], D even; float32, float64, bfloat16, or float16 on CUDA.
        pos: Positions [T, 3] in Å. These and all below are computed with in float32, or in float64 with float64 heads.
        phi: Features [T, M]; :obj:`None` where there are no scales or :obj:`gram` is given.
        gain: Gains [H, S] of the scales.
        scale_ptr: Offsets [S + 1] of the scales in a token's features, int64.
        freqs: Angular frequencies [K] in rad/Å, K ≤ D / 6.
        ptr: Offsets [B + 1] of the sequences, int64.
        causal: Whether token i sees j ≤ i alone. (default: :obj:`True`)
        gram: Products [T, S, L] of :func:`georope_gram` in the place of :obj:`phi`: cheaper where several calls share
            them and sequences are short.

    Returns:
        tuple: The outputs [T, H, D], and the log of each query's sum of exponentials [T, H].

    Raises:
        ValueError: If shapes or types do not match.
    """
    _check(q, k, v, pos, phi, gain, scale_ptr, freqs, ptr, gram)
    dtype = compute_dtype(q.dtype)
    pos, gain, freqs = pos.to(dtype), gain.to(dtype), freqs.to(dtype)
    phi, gram = None if phi is None else phi.to(dtype), None if gram is None else gram.to(dtype)
    if has_kernel('georope_attention', q) and q.size(2) <= MOST_CHANNELS.get(q.device.type, q.size(2)):
        return torch.ops.inertial.georope_attention(q, k, v, pos, phi, gain, scale_ptr, freqs, ptr, causal, gram)
    return georope_attention_ref(q, k, v, pos, phi, gain, scale_ptr, freqs, ptr, causal, gram)


def georope_gram(phi: Tensor, scale_ptr: Tensor, ptr: Tensor, max_length: int) -> Tensor:
    r"""The kernel products of each token with all tokens of its sequence, scale by scale, once for many layers:

    .. math:: G_{t,s,j} = \phi_s(p_t) \cdot \phi_s(p_{\mathrm{ptr}_b + j})

    and zero where the sequence of t has ended.

    Args:
        phi: Features [T, M], float32 or float64.
        scale_ptr: Offsets [S + 1] of the scales in a token's features, int64.
        ptr: Offsets [B + 1] of the sequences, int64.
        max_length: The longest sequence :math:`L`, or more.

    Returns:
        Tensor: Products [T, S, L].
    """
    if has_kernel('georope_gram', phi):
        return torch.ops.inertial.georope_gram(phi, scale_ptr, ptr, max_length)
    return georope_gram_ref(phi, scale_ptr, ptr, max_length)


def _check(q: Tensor, k: Tensor, v: Tensor, pos: Tensor, phi: Tensor | None, gain: Tensor, scale_ptr: Tensor,
           freqs: Tensor, ptr: Tensor, gram: Tensor | None) -> None:
    if q.dim() != 3 or q.size(2) == 0 or q.size(2) % 2 != 0:
        raise ValueError(f"'q' must be [T, H, D] with an even D > 0 (got {list(q.shape)})")
    for name, x in (('k', k), ('v', v)):
        if x.shape != q.shape or x.dtype != q.dtype:
            raise ValueError(f"'{name}' must be like 'q', {list(q.shape)} of {q.dtype} "
                             f"(got {list(x.shape)} of {x.dtype})")
    if pos.shape != (q.size(0), 3) or pos.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"'pos' must be [{q.size(0)}, 3] of float32 or float64 (got {list(pos.shape)} of {pos.dtype})")
    if gain.dim() != 2 or gain.size(0) != q.size(1):
        raise ValueError(f"'gain' must be [H = {q.size(1)}, S] (got {list(gain.shape)})")
    if scale_ptr.shape != (gain.size(1) + 1, ) or scale_ptr.dtype != torch.int64:
        raise ValueError(f"'scale_ptr' must be int64 offsets [S + 1 = {gain.size(1) + 1}] "
                         f"(got {list(scale_ptr.shape)} of {scale_ptr.dtype})")
    if freqs.dim() != 1 or 6 * freqs.numel() > q.size(2):
        raise ValueError(f"'freqs' must be [K] with K of at most D / 6 = {q.size(2) // 6} (got {list(freqs.shape)})")
    if ptr.dim() != 1 or ptr.numel() == 0 or ptr.dtype != torch.int64:
        raise ValueError(f"'ptr' must be int64 offsets [B + 1] (got {list(ptr.shape)}, {ptr.dtype})")
    if (phi is None) == (gram is None) and (phi is not None or gain.size(1) > 0):
        raise ValueError(f"one of 'phi' and 'gram' must be given (got {'neither' if phi is None else 'both'})")
    if phi is not None and (phi.dim() != 2 or phi.size(0) != q.size(0)):
        raise ValueError(f"'phi' must be [T = {q.size(0)}, M] (got {list(phi.shape)})")
    if gram is not None and (gram.dim() != 3 or gram.shape[:2] != (q.size(0), gain.size(1))):
        raise ValueError(f"'gram' must be [T = {q.size(0)}, S = {gain.size(1)}, L] (got {list(gram.shape)})")


_DOUBLE_ARGUMENTS = ('grad_out', 'grad_lse', 'q', 'k', 'v', 'pos', 'phi', 'gain', 'scale_ptr', 'freqs', 'ptr', 'gram')
_DIFFERENTIABLE = ('grad_out', 'grad_lse', 'q', 'k', 'v', 'pos', 'phi', 'gain', 'gram')


def _cut(x: Tensor) -> Tensor:
    """A tensor to differentiate by, without the paths on which it may depend on others of them."""
    return x.view_as(x) if x.requires_grad else x.detach().requires_grad_()


@example('georope_gram')
def _(normal: Callable[..., Tensor], device: torch.device) -> Example:
    scale_ptr, ptr = torch.tensor([0, 20, 40], device=device), torch.tensor([0, 5, 5, 23], device=device)
    return Example(lambda phi: georope_gram(phi, scale_ptr, ptr, 18),
                   lambda phi: georope_gram_ref(phi, scale_ptr, ptr, 18), (normal(23, 40), ))


@example('georope_attention')
def _(normal: Callable[..., Tensor], device: torch.device) -> Example:
    scale_ptr, ptr = torch.tensor([0, 20, 40], device=device), torch.tensor([0, 5, 5, 23], device=device)
    freqs = torch.tensor([3.0, 1.0, 0.2], device=device)
    return Example(
        lambda q, k, v, pos, phi, gain: georope_attention(q, k, v, pos, phi, gain, scale_ptr, freqs.to(q), ptr)[0],
        lambda q, k, v, pos, phi, gain: georope_attention_ref(
            q, k, v, pos, phi, gain, scale_ptr, freqs.to(q), ptr, True)[0],
        (normal(23, 3, 20), normal(23, 3, 20), normal(23, 3, 20), normal(23, 3), normal(23, 40) / 6, normal(3, 2)))


if 'georope_attention' in KERNELS['cpu']:
    @register_fake('georope_attention')
    def _(q, k, v, pos, phi, gain, scale_ptr, freqs, ptr, causal, gram=None):
        return q.new_empty(q.shape), pos.new_empty(q.shape[:2])

    @register_fake('georope_attention_backward')
    def _(grad_out, grad_lse, q, k, v, pos, phi, gain, scale_ptr, freqs, ptr, out, lse, causal, gram, needs_phi,
          needs_pos):
        source = gram if phi is None else phi
        dphi = source.new_empty(source.shape) if needs_phi and source is not None else pos.new_empty(0)
        return (q.new_empty(q.shape), q.new_empty(q.shape), q.new_empty(q.shape), dphi, gain.new_empty(gain.shape),
                pos.new_empty(pos.shape) if needs_pos else pos.new_empty(0))

    @register_fake('georope_gram')
    def _(phi, scale_ptr, ptr, max_length):
        return phi.new_empty(phi.size(0), scale_ptr.size(0) - 1, max_length)

    @register_fake('georope_gram_backward')
    def _(grad_gram, phi, scale_ptr, ptr):
        return phi.new_empty(phi.shape)

    def _setup_attention(ctx, inputs, output) -> None:
        *tensors, causal, gram = inputs
        ctx.save_for_backward(*tensors, gram, *output)
        ctx.causal = causal
        ctx.set_materialize_grads(False)

    def _attention_backward(ctx, grad_out, grad_lse):
        q, k, v, pos, phi, gain, scale_ptr, freqs, ptr, gram, out, lse = ctx.saved_tensors
        needs_phi, needs_pos = ctx.needs_input_grad[4] or ctx.needs_input_grad[10], ctx.needs_input_grad[3]
        if grad_out is None:
            grad_out = torch.zeros_like(out)
        dq, dk, dv, dphi, dgain, dpos = torch.ops.inertial.georope_attention_backward(
            grad_out, grad_lse, q, k, v, pos, phi, gain, scale_ptr, freqs, ptr, out, lse, ctx.causal, gram, needs_phi,
            needs_pos)
        dphi, dgram = (dphi if needs_phi and x is not None else None for x in (phi, gram))
        return dq, dk, dv, dpos if needs_pos else None, dphi, dgain, None, None, None, None, dgram

    def _setup_attention_backward(ctx, inputs, output) -> None:
        *tensors, _, _, causal, gram, _, _ = inputs
        ctx.save_for_backward(*tensors, gram)
        ctx.causal = causal
        ctx.set_materialize_grads(False)

    def _attention_double_backward(ctx, *grads):
        """Differentiates the definition twice; the first derivative is linear in the gradients that came in."""
        saved = dict(zip(_DOUBLE_ARGUMENTS, ctx.saved_tensors, strict=True))
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            wanted = {name: _cut(saved[name]) for name in _DIFFERENTIABLE if saved[name] is not None}
            given = saved | wanted
            grad_out, grad_lse = given.pop('grad_out'), given.pop('grad_lse')
            out, lse = georope_attention_ref(**given, causal=ctx.causal)
            total = (out * grad_out).sum() + (0 if grad_lse is None else (lse * grad_lse).sum())
            source = given['gram'] if given['phi'] is None else given['phi']
            pairs = [(x, g) for x, g in zip((*(given[n] for n in 'qkv'), source, given['gain'], given['pos']), grads,
                                            strict=True) if x is not None and g is not None and g.shape == x.shape]
            if not pairs:
                return (None, ) * 17
            first = torch.autograd.grad(total, [x for x, _ in pairs], create_graph=True, materialize_grads=True)
            inner = sum((x * g).sum() for x, (_, g) in zip(first, pairs, strict=True))
            second = torch.autograd.grad(inner, list(wanted.values()), create_graph=again, allow_unused=True)
        d = dict(zip(wanted, second, strict=True))
        return (*(d.get(name) for name in _DOUBLE_ARGUMENTS[:-1]), None, None, None, d.get('gram'), None, None)

    def _setup_gram(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.max_length = inputs[3]

    def _gram_backward(ctx, grad):
        phi, scale_ptr, ptr = ctx.saved_tensors
        return torch.ops.inertial.georope_gram_backward(grad, phi, scale_ptr, ptr), None, None, None

    def _setup_gram_backward(ctx, inputs, output) -> None:
        ctx.save_for_backward(*inputs)

    def _gram_double_backward(ctx, grad):
        grad_gram, phi, scale_ptr, ptr = ctx.saved_tensors
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            grad_gram, phi = _cut(grad_gram), _cut(phi)
            gram = georope_gram_ref(phi, scale_ptr, ptr, grad_gram.size(2))
            first, = torch.autograd.grad(gram, phi, grad_gram, create_graph=True)
            d_grad, d_phi = torch.autograd.grad(first, (grad_gram, phi), grad, create_graph=again)
        return d_grad, d_phi, None, None

    torch.library.register_autograd('inertial::georope_attention', _attention_backward, setup_context=_setup_attention)
    torch.library.register_autograd('inertial::georope_attention_backward', _attention_double_backward,
                                    setup_context=_setup_attention_backward)
    torch.library.register_autograd('inertial::georope_gram', _gram_backward, setup_context=_setup_gram)
    torch.library.register_autograd('inertial::georope_gram_backward', _gram_double_backward,
                                    setup_context=_setup_gram_backward)
