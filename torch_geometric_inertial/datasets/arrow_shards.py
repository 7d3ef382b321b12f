r"""Shards of molecules: Arrow IPC files of one record batch each, mapped into memory."""
from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.chem.fields import bonds_of, charges_of, check_molecule
from torch_geometric_inertial.chem.properties import title_of
from torch_geometric_inertial.files import sha256_of, write_atomically

FORMAT, SCHEMA_VERSION = 'torch_geometric_inertial molecules', 1
MAX_ATOMS = 2**15 - 1  #: Of a molecule: bonds are stored as 16-bit numbers of atoms.
#: Columns of lists: the type of the numbers, and how many belong to an atom or a bond.
LISTS: dict[str, tuple[type, int]] = dict(z=(np.uint8, 1), pos=(np.float32, 3), bond_index=(np.int16, 2),
                                          bond_order=(np.uint8, 1), formal_charge=(np.int8, 1))


@dataclass(frozen=True)
class Columns:
    r"""What a store of molecules holds besides :obj:`z`, :obj:`pos` (Å) and :obj:`identifier`.

    Args:
        bonds (bool): Bonds, their orders 1, 2, 3, and formal charges.
        groups (tuple): Names of groups, 0 or 1 in each molecule.
        properties (tuple): Names of numbers, float64; NaN where one is not known.
        units (dict): Units of properties by name.

    Raises:
        ValueError: If a name stands twice, or a unit is of no property.
    """
    bonds: bool = True
    groups: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()
    units: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ('groups', 'properties'):
            object.__setattr__(self, name, tuple(getattr(self, name)))
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"'{name}' must be different names (got {getattr(self, name)})")
        if unknown := set(self.units) - set(self.properties):
            raise ValueError(f"'units' must be of properties ({', '.join(self.properties) or 'there are none'}; got "
                             f"{', '.join(sorted(unknown))})")

    def lists(self) -> dict[str, tuple[type, int]]:
        r"""Those of :data:`LISTS` that there are."""
        return {name: facts for name, facts in LISTS.items() if self.bonds or name in ('z', 'pos')}

    def schema(self) -> Any:
        r"""As an Arrow schema; format, version, names and units stand in its metadata."""
        pa = pyarrow()
        fields = {name: pa.list_(pa.field('item', pa.from_numpy_dtype(kind), nullable=False))
                  for name, (kind, _) in self.lists().items()}
        for name, kind in (('groups', pa.uint8()), ('properties', pa.float64())):
            if names := getattr(self, name):
                fields[name] = pa.list_(pa.field('item', kind, nullable=False), len(names))
        fields['identifier'] = pa.string()
        metadata = dict(format=FORMAT, schema_version=str(SCHEMA_VERSION), columns=json.dumps(asdict(self)),
                        units=json.dumps(dict(pos='Å', **self.units)))
        return pa.schema([pa.field(name, kind, nullable=False) for name, kind in fields.items()], metadata)


class Row(NamedTuple):
    r"""A molecule as a store holds it."""
    z: np.ndarray
    pos: np.ndarray
    bond_index: np.ndarray
    bond_order: np.ndarray
    formal_charge: np.ndarray
    groups: np.ndarray
    properties: list[float]
    identifier: str


def row_of(data: Data, columns: Columns) -> Row:
    r"""Checks a molecule and takes from it what a store holds.

    Args:
        data: :obj:`z` [N], :obj:`pos` [N, 3] (Å); bonds as :func:`~torch_geometric_inertial.chem.to_mol` takes them;
            :obj:`groups` [1, G]; each property as a field or in :obj:`data.properties`, or :obj:`properties` [1, P].
        columns: What it should have.

    Raises:
        ValueError: If something is missing, malformed or too large.
    """
    z, pos = check_molecule(data)
    if z.numel() > MAX_ATOMS:
        raise ValueError(f'data must have at most {MAX_ATOMS} atoms (got {z.numel()})')
    pairs, orders = bonds_of(data) if columns.bonds else ([], [])
    if columns.bonds and data.get('edge_attr') is None and pairs:
        raise ValueError(f"data needs bond orders in 'edge_attr' (got {data})")
    ends = np.array(pairs, dtype=np.int16).reshape(-1, 2)
    order = np.lexsort((ends[:, 1], ends[:, 0]))
    charge = (charges_of(data) if columns.bonds else None) or [0] * z.numel()
    groups = np.zeros(0, dtype=np.uint8)
    if columns.groups:
        found = data.get('groups')
        if not isinstance(found, Tensor) or found.shape != (1, len(columns.groups)) or bool(
                ((found != 0) & (found != 1)).any()):
            got = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(f"'groups' must be 0 or 1, [1, {len(columns.groups)}] (got {got})")
        groups = found.view(-1).numpy().astype(np.uint8)
    return Row(z.numpy(), pos.numpy(), ends[order], np.array(orders, dtype=np.uint8)[order],
               np.array(charge, dtype=np.int8), groups, _properties(data, columns.properties), _identifier(data))


def _properties(data: Data, names: Sequence[str]) -> list[float]:
    given = data.get('properties')
    if names and isinstance(given, Tensor):
        if given.shape != (1, len(names)):
            raise ValueError(f"'properties' must be [1, {len(names)}] (got {list(given.shape)})")
        values = dict(zip(names, given.view(-1).tolist(), strict=True))
    else:
        values = {name: data[name] if name in data else (given or {}).get(name, math.nan) for name in names}
    found = []
    for name, value in values.items():
        try:
            found.append(float(value))
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"'{name}' must be a number (got {value!r:.40})") from None
        if math.isinf(found[-1]):
            raise ValueError(f"'{name}' must be finite, or NaN where not known (got {value!r:.40})")
    return found


def _identifier(data: Data) -> str:
    given = data.get('identifier')
    return given if isinstance(given, str) else title_of(data)


def write_shard(path: Path, rows: Sequence[Row], columns: Columns, metadata: dict[str, str] | None = None
                ) -> dict[str, Any]:
    r"""Writes molecules to a file, whole or not at all, and returns what a manifest says of it.

    Raises:
        OSError: If it cannot be written; no part of it is left.
    """
    pa = pyarrow()
    arrays: dict[str, Any] = {}
    for name, (kind, _) in columns.lists().items():
        parts = [getattr(row, name).reshape(-1) for row in rows]
        offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts], dtype=np.int64)]).astype(np.int32)
        arrays[name] = offsets, np.concatenate([np.zeros(0, dtype=kind), *(part.astype(kind) for part in parts)])
    schema = columns.schema()
    if metadata:
        schema = schema.with_metadata({**schema.metadata, **metadata})
    built = []
    for item in schema:
        if item.name in arrays:
            offsets, values = arrays[item.name]
            built.append(pa.ListArray.from_arrays(pa.array(offsets), pa.array(values), type=item.type))
        elif item.name == 'identifier':
            built.append(pa.array([row.identifier for row in rows], type=item.type))
        else:
            kind = np.uint8 if item.name == 'groups' else np.float64
            values = np.array([getattr(row, item.name) for row in rows], dtype=kind).reshape(-1)
            built.append(pa.FixedSizeListArray.from_arrays(pa.array(values), type=item.type))
    return write_batch(path, pa.record_batch(built, schema=schema))


def write_batch(path: Path, batch: Any) -> dict[str, Any]:
    r"""Writes a record batch of molecules; see :func:`write_shard`."""
    pa = pyarrow()

    def write(temporary: Path) -> None:
        with pa.OSFile(str(temporary), 'wb') as file, pa.ipc.new_file(file, batch.schema) as writer:
            writer.write_batch(batch)
    try:
        write_atomically(path, write)
    except OSError as error:
        raise OSError(error.errno, f"shard '{path}' cannot be written ({error})") from error
    return facts_of(path, batch)


def facts_of(path: Path, batch: Any) -> dict[str, Any]:
    r"""What a manifest says of a shard."""
    z = batch.column('z')
    z, ptr = z.values.to_numpy(), z.offsets.to_numpy()
    facts = dict(file=path.name, num_molecules=len(batch), total_atoms=len(z), bytes=path.stat().st_size,
                 sha256=sha256_of(path))
    if len(batch):
        sizes, heavy = np.diff(ptr), np.add.reduceat(z > 1, ptr[:-1], dtype=np.int32)
        facts.update(num_atoms=[int(sizes.min()), int(sizes.max())], elements=np.unique(z).tolist(),
                     num_heavy_atoms=[int(heavy.min()), int(heavy.max())])
    return facts


def open_batch(path: Path, expected: Any = None) -> Any:
    r"""The record batch of a shard, mapped into memory.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no shard, or its columns are not the expected ones.
    """
    pa = pyarrow()
    try:
        file = pa.ipc.open_file(pa.memory_map(str(path)))
        if file.num_record_batches != 1:
            raise ValueError(f"shard '{path}' must hold one record batch (got {file.num_record_batches})")
        batch = file.get_batch(0)
    except pa.ArrowException as error:
        raise ValueError(f"shard '{path}' is damaged or no Arrow file ({error}): make it again") from error
    if expected is not None and not file.schema.equals(expected):
        raise ValueError(f"shard '{path}' has other columns than its manifest says (got "
                         f"{', '.join(file.schema.names)})")
    return batch


class Shard:
    r"""The columns of a shard as NumPy arrays, views of the file.

    Args:
        batch: The record batch.
        columns (Columns): What it holds.
    """
    def __init__(self, batch: Any, columns: Columns):
        self.values: dict[str, np.ndarray] = {}
        for name, (_, width) in columns.lists().items():
            values = batch.column(name).values.to_numpy(zero_copy_only=True)
            self.values[name] = values.reshape(-1, width) if width > 1 else values
        self.atom_ptr = batch.column('z').offsets.to_numpy(zero_copy_only=True)
        self.bond_ptr = batch.column('bond_order').offsets.to_numpy(zero_copy_only=True) if columns.bonds else None
        self.rows = {name: batch.column(name).values.to_numpy(zero_copy_only=True).reshape(len(batch), -1)
                     for name in ('groups', 'properties') if getattr(columns, name)}
        self.identifier = batch.column('identifier')


def packed(ptr: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""The rows of the lists :obj:`index` [B] of a column with offsets :obj:`ptr`, one list after the other, and how
    many each has [B]."""
    start = ptr[index].astype(np.int64)
    length = ptr[index + 1] - start
    end = np.cumsum(length)
    return np.repeat(start - end + length, length) + np.arange(end[-1] if len(end) else 0), length


def pyarrow() -> Any:
    r"""The package.

    Raises:
        ImportError: With what to install.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError("stores of molecules need pyarrow: pip install 'torch_geometric_inertial[scale]'") from error
    return pyarrow
