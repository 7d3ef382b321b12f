r"""Between packed tokens [T, ...] and padded ones [B, N, ...], for the operations that need a rectangle."""
import torch
from torch import Tensor


class Packing:
    r"""Where each of :math:`T` packed tokens stands in a padded [B, N] rectangle.

    Args:
        ptr (Tensor): Offsets [B + 1] of the sequences, int64, starting at 0.

    Attributes:
        ptr (Tensor): The offsets.
        length (Tensor): Tokens of each sequence [B].
        batch (Tensor): The sequence of each token [T].
        slot (Tensor): The place of each token in its sequence [T].
        size (tuple): :math:`(B, N)`, with :math:`N` the length of the longest sequence.
        uniform (bool): Whether all sequences are equally long; then padding copies nothing.
    """
    def __init__(self, ptr: Tensor):
        if ptr.dim() != 1 or ptr.numel() == 0 or ptr.is_floating_point():
            raise ValueError(f"'ptr' must be integer offsets of shape [B + 1] (got {tuple(ptr.shape)}, {ptr.dtype})")
        self.ptr, self.length = ptr, ptr.diff()
        shortest = longest = 0
        if ptr.numel() > 1:
            first, shortest, longest = torch.stack([ptr[0], *self.length.aminmax()]).tolist()
            if first != 0 or shortest < 0:
                raise ValueError(f"'ptr' must start at 0 and not descend (got {ptr.tolist()})")
        self.batch = torch.repeat_interleave(self.length)
        self.slot = torch.arange(self.batch.numel(), device=ptr.device) - ptr[self.batch]
        self.size = (ptr.numel() - 1, longest)
        self.uniform = shortest == longest
        self._flat = self.batch * self.size[1] + self.slot

    def pad(self, x: Tensor, fill: float = 0) -> Tensor:
        r"""[T, ...] -> [B, N, ...], with :obj:`fill` where a sequence has ended."""
        if self.uniform:
            return x.reshape(*self.size, *x.shape[1:])
        out = x.new_full((self.size[0] * self.size[1], *x.shape[1:]), fill)
        return out.index_copy(0, self._flat, x).view(*self.size, *x.shape[1:])

    def unpad(self, x: Tensor) -> Tensor:
        r"""[B, N, ...] -> [T, ...]."""
        return x.flatten(0, 1) if self.uniform else x.flatten(0, 1).index_select(0, self._flat)

    @property
    def single(self) -> bool:
        r"""Whether every sequence is one token."""
        return self.size == (self.batch.numel(), 1)

    def mask(self) -> Tensor:
        r"""[B, N], true where a token stands."""
        return torch.arange(self.size[1], device=self.length.device) < self.length.unsqueeze(1)
