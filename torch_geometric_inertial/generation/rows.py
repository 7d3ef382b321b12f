r"""Rows of a batch whose state is a set of tensors: some leave, others come."""
from __future__ import annotations

from torch import Tensor

Rows = dict[str, Tensor]  #: Tensors [R, ...] by name.


def keep_rows(state: Rows, rows: Tensor) -> Rows:
    r"""The state of these rows alone."""
    return {name: x[rows] for name, x in state.items()}


def join_rows(state: Rows | None, other: Rows) -> Rows:
    r"""A state, and behind it the rows of another; dimensions that are too short are padded with zeros."""
    if state is None:
        return other
    return {name: _join(x, other[name]) for name, x in state.items()}


def _join(x: Tensor, y: Tensor) -> Tensor:
    shape = [max(a, b) for a, b in zip(x.shape[1:], y.shape[1:], strict=True)]
    out = x.new_zeros(x.size(0) + y.size(0), *shape)
    out[(slice(0, x.size(0)), *map(slice, x.shape[1:]))] = x
    out[(slice(x.size(0), None), *map(slice, y.shape[1:]))] = y
    return out
