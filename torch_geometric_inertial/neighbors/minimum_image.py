r"""Differences of positions in a periodic system."""
from __future__ import annotations

import torch
from torch import Tensor


def minimum_image(difference: Tensor, cell: Tensor, pbc: Tensor, batch: Tensor) -> Tensor:
    r"""Takes the lattice translation off a difference of positions that brings its fractional coordinates along periods
    into :math:`(-\tfrac12, \tfrac12]`.

    That is the convention of OC20's metrics. In a strongly skewed cell another image can be nearer; not so for
    differences that are short against the cell. Differentiable: the translation is a constant.

    Args:
        difference: Of positions [N, 3].
        cell: Lattice vectors as rows [B, 3, 3].
        pbc: Which of them are periods [B, 3], bool.
        batch: The system of each row [N].

    Raises:
        ValueError: If the shapes do not fit.
    """
    systems = cell.size(0) if cell.dim() == 3 else 0
    if cell.shape != (systems, 3, 3) or pbc.shape != (systems, 3) or pbc.dtype != torch.bool:
        raise ValueError(f"'cell' must be [B, 3, 3] and 'pbc' bool [B, 3] (got {list(cell.shape)}, {list(pbc.shape)} "
                         f"and {pbc.dtype})")
    if difference.shape != (*batch.shape, 3) or batch.dim() != 1:
        raise ValueError(f"'difference' must be [N, 3] and 'batch' [N] (got {list(difference.shape)} and "
                         f"{list(batch.shape)})")
    lattice = (cell * pbc.unsqueeze(-1)).double()
    fraction = difference.detach().double().unsqueeze(1) @ torch.linalg.pinv(lattice)[batch]
    translation = (fraction - 0.5).ceil() @ lattice[batch]
    return difference - translation.squeeze(1).to(difference)
