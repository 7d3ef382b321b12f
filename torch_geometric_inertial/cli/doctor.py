from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor

from torch_geometric_inertial import ops
from torch_geometric_inertial.ops.library import COMPILED, KERNELS

#: The largest difference from the float64 definition that a float32 operator may show, in units of its largest entry.
TOLERANCE = 1e-4


def doctor() -> None:
    r"""Says which compiled operators run here, and checks every operator against its definition.

    Example: inertial doctor

    Raises:
        ValueError: If an operator is wrong.
    """
    try:
        own = version('torch_geometric_inertial')
    except PackageNotFoundError:
        own = '(not installed)'
    print(f'torch_geometric_inertial {own}, Python {platform.python_version()}, {platform.platform()}')
    print(f'torch {torch.__version__}, {torch.get_num_threads()} thread(s)')
    devices = ['cpu']
    if torch.cuda.is_available():
        devices.append('cuda')
        major, minor = torch.cuda.get_device_capability()
        print(f'CUDA {torch.version.cuda}, {torch.cuda.get_device_name()} (sm_{major}{minor})')
    else:
        print('CUDA: none')
    if COMPILED:
        level = ('portable', 'AVX2', 'AVX-512')[torch.ops.inertial.cpu_capability()]
        print(f'CPU kernels use {level} instructions')
    else:
        print('the compiled operators were not built: pip install --no-build-isolation -e .')
    print(f'\n{"operator":22}{"device":8}{"runs on":10}{"error":>9}')
    wrong = []
    for device in devices:
        for name, error in self_check(torch.device(device)):
            how, good = 'kernel' if name in KERNELS[device] else 'PyTorch', error <= TOLERANCE
            print(f'{name:22}{device:8}{how:10}{error:9.1e}  {"good" if good else "WRONG"}')
            if not good:
                wrong.append(f'{name} on {device}')
    if wrong:
        raise ValueError(f"these operators differ from their definitions: {', '.join(wrong)}")


def self_check(device: torch.device) -> Iterator[tuple[str, float]]:
    r"""Every operator with its distance from the definition, in float32 with derivatives where it has some.

    The distance is the largest over outputs, gradients and tensors written in place, relative to the largest entry.
    """
    g = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g).to(device)

    def integers(*values: int) -> Tensor:
        return torch.tensor(values, device=device)

    ptr, slot, scale_ptr = integers(0, 5, 5, 23), integers(0, 18, 7), integers(0, 20, 40)
    tokens, heads, size = 23, 3, 20
    yield 'segment_sum', distance(ops.segment_sum, ops.segment_sum_ref, normal(tokens, 7), ptr)
    yield 'rope_rotate', distance(ops.rope_rotate, ops.rope_rotate_ref, normal(tokens, heads, size),
                                  9 * normal(tokens, size // 2))
    landmarks, whitening = 2 * normal(20, 3), normal(2, 20, 20)
    yield 'nystrom_features', distance(
        lambda pos: ops.nystrom_features(pos, landmarks.to(pos), whitening.to(pos), (1.0, 2.5)),
        lambda pos: ops.nystrom_features_ref(pos, landmarks.to(pos), whitening.to(pos), (1.0, 2.5)), normal(tokens, 3))
    yield 'georope_gram', distance(lambda phi: ops.georope_gram(phi, scale_ptr, ptr, 18),
                                   lambda phi: ops.georope_gram_ref(phi, scale_ptr, ptr, 18), normal(tokens, 40))
    freqs, turn = torch.tensor([3.0, 1.0, 0.2], device=device), (tokens, heads, size)
    yield 'georope_attention', distance(
        lambda q, k, v, pos, phi, gain: ops.georope_attention(
            q, k, v, pos, phi, gain, scale_ptr, freqs.to(q), ptr)[0],
        lambda q, k, v, pos, phi, gain: ops.georope_attention_ref(
            q, k, v, pos, phi, gain, scale_ptr, freqs.to(q), ptr, True)[0],
        normal(*turn), normal(*turn), normal(*turn), normal(tokens, 3), normal(tokens, 40) / 6, normal(heads, 2))
    yield 'georope_decode_gram', distance(
        lambda phi, cache: ops.georope_decode_gram(phi, slot, 2, 19, cache),
        lambda phi, cache: ops.georope_decode_gram_ref(phi, slot, 2, 19, cache),
        normal(3, 40), normal(3, 24, 40), derivatives=False)
    yield 'georope_decode', distance(
        ops.georope_decode, ops.georope_decode_ref, *(normal(3, heads, size) for _ in range(3)), normal(3, 2, 19),
        normal(heads, 2), slot, *(normal(3, 24, heads, size) for _ in range(2)), derivatives=False)
    root = normal(tokens, 3, 3)
    yield 'inverse_root', distance(ops.inverse_root, ops.inverse_root_ref,
                                   root @ root.mT + torch.eye(3, device=device))
    yield 'whiten', distance(lambda x, weight: ops.whiten(x, weight, 1e-3, 0.1),
                             lambda x, weight: ops.whiten_ref(x, weight, 1e-3, 0.1), normal(tokens, 3, 12), normal(12))
    vectors = (tokens, 3, heads * 4)
    yield 'pair_attention', distance(
        lambda q, k, v, bias: ops.pair_attention(q, k, v, bias, ptr, 0.5, heads),
        lambda q, k, v, bias: ops.pair_attention_ref(q, k, v, bias, ptr, 0.5, heads),
        normal(*vectors), normal(*vectors), normal(*vectors), normal(3 * heads, 18, 18))


def distance(op: Callable[..., Tensor], reference: Callable[..., Tensor], *inputs: Tensor,
             derivatives: bool = True) -> float:
    r"""How far a float32 operator is from its float64 definition: outputs, inputs afterwards, gradients if wanted."""
    def everything(call: Callable[..., Tensor], dtype: torch.dtype) -> list[Tensor]:
        copies = [x.to(dtype, copy=True) if x.is_floating_point() else x for x in inputs]
        needed = [x.requires_grad_() for x in copies if derivatives and x.is_floating_point()]
        out = call(*copies)
        grads = torch.autograd.grad(out.sin().sum(), needed) if needed else ()
        return [out.detach(), *(x.detach() for x in copies), *grads]

    pairs = zip(everything(op, torch.float32), everything(reference, torch.float64), strict=True)
    return float(torch.stack([(a - b).abs().max() / b.abs().max().clamp(min=1) for a, b in pairs]).max())  # or NaN
