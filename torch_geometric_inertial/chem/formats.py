r"""Molecules from and to files of any format, by the ending of the name."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from torch_geometric.data import Data

from torch_geometric_inertial.chem.jsonl import read_jsonl, write_jsonl
from torch_geometric_inertial.chem.pdb import read_pdb
from torch_geometric_inertial.chem.sdf import read_sdf, write_sdf
from torch_geometric_inertial.chem.xyz import read_xyz, write_xyz

READERS: dict[str, Callable[..., list[Data]]] = {
    '.sdf': read_sdf, '.mol': read_sdf, '.xyz': read_xyz, '.jsonl': read_jsonl, '.pdb': read_pdb}
WRITERS: dict[str, Callable[..., int]] = {'.sdf': write_sdf, '.xyz': write_xyz, '.jsonl': write_jsonl}


def read_molecules(path: str | Path, on_error: str = 'raise', fields: Sequence[str] = ()) -> list[Data]:
    r"""The molecules of a file; see :func:`read_sdf`.

    Raises:
        ValueError: If the ending is unknown.
    """
    ending = Path(path).suffix.lower()
    if ending not in READERS:
        raise ValueError(f"'{path}' must end in one of {', '.join(READERS)}")
    more = dict(fields=fields) if fields and ending in ('.sdf', '.mol') else {}
    return READERS[ending](path, on_error=on_error, **more)


def write_molecules(molecules: Iterable[Data | None], path: str | Path, on_error: str = 'raise') -> int:
    r"""Writes molecules as they come; see :func:`write_sdf`.

    Raises:
        ValueError: If the ending is unknown (before anything is computed).
    """
    ending = Path(path).suffix.lower()
    if ending not in WRITERS:
        raise ValueError(f"'{path}' must end in one of {', '.join(WRITERS)}")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return WRITERS[ending](molecules, path, on_error=on_error)
