r"""Molecules from and to files, by the ending of the name."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from torch_geometric.data import Data

from torch_geometric_inertial.chem import read_jsonl, read_pdb, read_sdf, read_xyz, write_jsonl, write_sdf, write_xyz

READERS: dict[str, Callable[..., list[Data]]] = {
    '.sdf': read_sdf, '.mol': read_sdf, '.xyz': read_xyz, '.jsonl': read_jsonl, '.pdb': read_pdb}
WRITERS: dict[str, Callable[..., int]] = {'.sdf': write_sdf, '.xyz': write_xyz, '.jsonl': write_jsonl}


def read_molecules(path: Path, on_error: str = 'skip', fields: Sequence[str] = ()) -> list[Data]:
    r"""The molecules of a file; broken records are named in a warning and left out.

    Args:
        path: The file.
        on_error: :obj:`'skip'` or :obj:`'raise'`.
        fields: Names of the numbers that an SDF file has about its molecules (JSON lines come with all of theirs).

    Raises:
        ValueError: If the ending is unknown or no molecule is left.
    """
    if path.suffix.lower() not in READERS:
        raise ValueError(f"'{path}' must end in one of {', '.join(READERS)}")
    more = dict(fields=fields) if fields and path.suffix.lower() in ('.sdf', '.mol') else {}
    molecules = READERS[path.suffix.lower()](path, on_error=on_error, **more)
    if not molecules:
        raise ValueError(f"'{path}' holds no molecule")
    return molecules


def write_molecules(molecules: Iterable[Data], path: Path) -> int:
    r"""Writes molecules as they come; malformed ones are named in a warning and left out.

    Raises:
        ValueError: If the ending is unknown (before anything is computed).
    """
    if path.suffix.lower() not in WRITERS:
        raise ValueError(f"'{path}' must end in one of {', '.join(WRITERS)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    return WRITERS[path.suffix.lower()](molecules, path, on_error='skip')
