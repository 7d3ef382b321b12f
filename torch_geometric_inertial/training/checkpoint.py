r"""Trainer state on disk: written whole or not at all, read without running code."""
from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from torch_geometric_inertial.files import write_atomically


def save_checkpoint(state: dict[str, Any], folder: str | Path, *, keep: int = 2) -> Path:
    r"""Writes :obj:`state` as :obj:`folder/checkpoint-STEP.pt` and drops all but the newest :obj:`keep`."""
    path = Path(folder) / f'checkpoint-{state["step"]:09d}.pt'
    write_atomically(path, lambda temporary: torch.save(state, temporary))
    for old in sorted(path.parent.glob('checkpoint-*.pt'))[:-keep]:
        old.unlink()
    return path


def load_checkpoint(folder: str | Path) -> dict[str, Any] | None:
    r"""The newest readable checkpoint of a folder, or :obj:`None` where there is none.

    A file that cannot be read is passed over with a warning in favour of the one before it.

    Raises:
        ValueError: If there are checkpoints, but none can be read.
    """
    paths = sorted(Path(folder).glob('checkpoint-*.pt'), reverse=True)
    for path in paths:
        try:
            return torch.load(path, map_location='cpu', weights_only=True)
        except Exception as error:  # torn zip, truncated file, pickle that wants code: all mean "not this one"
            warnings.warn(f"checkpoint '{path}' cannot be read and is passed over: {error}", stacklevel=2)
    if paths:
        raise ValueError(f"none of the {len(paths)} checkpoints in '{folder}' can be read")
    return None
