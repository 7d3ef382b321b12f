r"""Trainer state on disk: written whole or not at all, checked and read without running code."""
from __future__ import annotations

import re
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from torch_geometric_inertial.files import sha256_of, write_atomically


def save_checkpoint(state: dict[str, Any], folder: str | Path, *, keep: int = 2) -> Path:
    r"""Writes :obj:`state` as :obj:`folder/checkpoint-STEP.pt` and its SHA-256 beside it as
    :obj:`checkpoint-STEP.pt.sha256`, which :obj:`sha256sum --check` reads. Drops all but the newest :obj:`keep`."""
    path = Path(folder) / f'checkpoint-{state["step"]:09d}.pt'

    def write(temporary: Path) -> None:
        torch.save(state, temporary)
        line = f'{sha256_of(temporary)}  {path.name}\n'
        write_atomically(_hash_file(path), lambda other: other.write_text(line))  # there before what it describes
    write_atomically(path, write)
    kept = checkpoints(folder)[:keep]
    for old in checkpoints(folder)[keep:]:
        old.unlink()
    for old in path.parent.glob('checkpoint-*.pt.sha256'):
        if old.with_suffix('') not in kept:
            old.unlink()
    return path


def load_checkpoint(folder: str | Path, needs: Collection[str] = ('step', )) -> dict[str, Any] | None:
    r"""The newest good checkpoint of a folder, or :obj:`None` where there is none.

    One that cannot be read, is not what was written by its SHA-256, or is of another kind is passed over with a warning
    in favor of the one before it.

    Args:
        folder (str or Path): Where :func:`save_checkpoint` wrote to.
        needs (collection of str): What the state must hold. (default: :obj:`('step', )`)

    Raises:
        ValueError: If there are checkpoints, but none is good.
    """
    paths = checkpoints(folder)
    for path in paths:
        try:
            return _load(path, needs)
        except Exception as error:  # torn zip, truncated file, pickle that wants code: all mean "not this one"
            warnings.warn(f"checkpoint '{path}' cannot be read and is passed over: {error}", stacklevel=2)
    if paths:
        raise ValueError(f"none of the {len(paths)} checkpoints in '{folder}' can be read")
    return None


def checkpoints(folder: str | Path) -> list[Path]:
    r"""The checkpoints of a folder, the newest first."""
    return sorted((path for path in Path(folder).glob('checkpoint-*.pt') if path.is_file()), reverse=True)


def remove_orphans(folder: str | Path) -> None:
    r"""Removes what killed processes left half written in a folder that is :func:`locked
    <torch_geometric_inertial.files.locked_folder>`: nobody else writes there."""
    for path in Path(folder).glob('.*.part'):
        path.unlink(missing_ok=True)


def _load(path: Path, needs: Collection[str]) -> dict[str, Any]:
    if _hash_file(path).is_file():
        words = _hash_file(path).read_text(errors='replace').split()
        if sha256_of(path) != (words or [''])[0]:
            raise ValueError(f"its SHA-256 is not that of '{_hash_file(path).name}': a file was altered or torn")
    else:
        warnings.warn(f"checkpoint '{path}' has no SHA-256 beside it and is not checked", stacklevel=3)
    state = torch.load(path, map_location='cpu', weights_only=True)
    if not isinstance(state, dict):
        raise ValueError(f'it must hold a dictionary (got {type(state).__name__})')
    if missing := sorted(set(needs) - state.keys()):
        raise ValueError(f'it is of another kind and lacks {missing}')
    if (named := re.fullmatch(r'checkpoint-(\d+)\.pt', path.name)) and state.get('step') != int(named[1]):
        raise ValueError(f"it must hold step {int(named[1])}, as its name says (got {state.get('step')})")
    return state


def _hash_file(path: Path) -> Path:
    return path.with_name(f'{path.name}.sha256')
