r"""Molecules in more memory than there is: a folder of Arrow files that are mapped, not loaded."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data, Dataset

from torch_geometric_inertial.datasets.arrow_shards import (
    FORMAT,
    SCHEMA_VERSION,
    Columns,
    Row,
    Shard,
    open_batch,
    packed,
    row_of,
    write_shard,
)
from torch_geometric_inertial.files import locked_folder, reading, sha256_of, write_atomically

MANIFEST = 'manifest.json'
SHARD_MOLECULES, SHARD_ATOMS = 2**18, 2**23  #: Most of a shard: about 100 MB of small molecules.
WINDOW = 64  #: Blocks that are shuffled together.


class ArrowMolecules(Dataset):
    r"""Molecules in a folder of Arrow IPC files, which any program that knows Arrow can read. The files are mapped into
    memory: opening reads none of them, several processes share what is in memory, and a set may be larger than that.

    Each item is a :class:`~torch_geometric.data.Data` with :obj:`z` [N], :obj:`pos` [N, 3] (Å), :obj:`identifier`
    and, where the store has them, :obj:`edge_index` [2, E] (both directions), :obj:`edge_attr` [E] (orders 1, 2, 3),
    :obj:`formal_charge` [N], :obj:`groups` [1, G] and :obj:`properties` [1, P] (float64; NaN where not known). What
    groups and properties are called, and the units, stands in :obj:`columns`; what was left out when the store was
    made, in :obj:`report`.

    It can be given to :func:`~torch_geometric_inertial.training.fit`, whole or in part (:obj:`dataset[:1000]`), and is
    then read block by block in random order, see :meth:`shuffled`.

    Args:
        root: The folder.
        transform: Applied to an item whenever it is read.
        verify (bool): Whether to compare the SHA-256 of a file with that of the manifest when it is first used. The
            sizes are always compared. (default: :obj:`True`)
        block_size (int): Molecules that stand together and are read together when shuffled. (default: :obj:`4096`)

    Raises:
        FileNotFoundError: If there is no store, or one of its files is missing.
        ValueError: If the store is of another version, is empty or damaged, or :obj:`block_size` is less than 1. The
            damaged file is named.

    Example:
        >>> ArrowMolecules.write(QM9Sample(), 'store')  # doctest: +SKIP
        >>> data = ArrowMolecules('store')  # doctest: +SKIP
        >>> batch = data.batch(torch.tensor([3, 7]))  # doctest: +SKIP
    """
    def __init__(self, root: str | Path, transform: Callable[[Data], Data] | None = None, verify: bool = True,
                 block_size: int = 4096):
        if block_size < 1:
            raise ValueError(f"'block_size' must be at least 1 (got {block_size})")
        super().__init__(str(root), transform)
        self.folder, self.verify_files, self.block_size = Path(root), verify, block_size
        manifest = read_manifest(self.folder)
        self.columns = Columns(**manifest['columns'])
        self.report: dict[str, Any] = manifest['report']
        self._facts: list[dict[str, Any]] = manifest['shards']
        self._start = np.cumsum([0, *(facts['num_molecules'] for facts in self._facts)])
        self._checked: set[int] = set()
        self._shards: dict[int, Shard] = {}
        self._index: tuple[Any, np.ndarray] | None = None

    @classmethod
    def write(cls, molecules: Iterable[Data], root: str | Path, bonds: bool = True, groups: Sequence[str] = (),
              properties: Sequence[str] = (), units: dict[str, str] | None = None,
              shard_molecules: int = SHARD_MOLECULES) -> ArrowMolecules:
        r"""Writes molecules as they come, and opens what was written. The store appears whole or not at all.

        Args:
            molecules: With :obj:`z` and :obj:`pos`; bonds, charges, :obj:`groups` [1, G], properties (fields of one
                number, or items of :obj:`data.properties`) and :obj:`identifier` or :obj:`title`, where they have them.
            root: A folder that holds no store yet.
            bonds: Whether molecules have bonds. (default: :obj:`True`)
            groups: Names of the groups.
            properties: Names of the properties to keep.
            units: Units of properties by name.
            shard_molecules: Most molecules of a file.

        Raises:
            OSError: If it cannot be written, such as for lack of space; the unfinished store is removed.
            ValueError: If a molecule is malformed, named by its number; if there is none; if the folder holds a store
                already, or another process writes to it.
        """
        columns, root = Columns(bonds, tuple(groups), tuple(properties), units or {}), Path(root)
        if shard_molecules < 1:
            raise ValueError(f"'shard_molecules' must be at least 1 (got {shard_molecules})")
        with locked_folder(root):
            check_vacant(root)
            shards: list[dict[str, Any]] = []
            rows: list[Row] = []
            atoms = 0

            def flush() -> None:
                if rows:
                    shards.append(write_shard(root / shard_name(len(shards)), rows, columns))
                    rows.clear()
            try:
                for i, data in enumerate(molecules):
                    try:
                        row = row_of(data, columns)
                    except ValueError as error:
                        raise ValueError(f'molecule {i}: {error}') from error
                    if len(rows) == shard_molecules or atoms + len(row.z) > SHARD_ATOMS:
                        flush()
                        atoms = 0
                    rows.append(row)
                    atoms += len(row.z)
                flush()
                publish(root, columns, shards, dict(read=sum(facts['num_molecules'] for facts in shards), dropped={}))
            except BaseException:
                for facts in shards:
                    (root / facts['file']).unlink(missing_ok=True)
                raise
        return cls(root)

    def len(self) -> int:
        return int(self._start[-1])

    def get(self, idx: int) -> Data:
        s = int(np.searchsorted(self._start, idx, side='right')) - 1
        shard, i = self._shard(s), idx - int(self._start[s])
        a, b = shard.atom_ptr[i:i + 2].tolist()
        data = Data(z=torch.from_numpy(shard.values['z'][a:b].astype(np.int64)),
                    pos=torch.from_numpy(shard.values['pos'][a:b].copy()), identifier=shard.identifier[i].as_py())
        if shard.bond_ptr is not None:
            c, d = shard.bond_ptr[i:i + 2].tolist()
            values = shard.values
            _set_bonds(data, values['bond_index'][c:d], values['bond_order'][c:d], values['formal_charge'][a:b])
        for name, rows in shard.rows.items():
            data[name] = torch.from_numpy(rows[i:i + 1].copy())
        return data

    def batch(self, index: Tensor) -> Data:
        r"""The molecules :obj:`index` [B] as one packed :class:`~torch_geometric.data.Data` with :obj:`ptr`, without
        identifiers.

        Raises:
            IndexError: If there is no such molecule.
        """
        if self.transform is not None:
            return Batch.from_data_list([self[i] for i in index.tolist()])
        wanted = self._numbers(index)
        order = np.argsort(wanted, kind='stable')
        rows = wanted[order]
        cuts = np.searchsorted(rows, self._start)
        parts: dict[str, list[np.ndarray]] = {}
        for s in np.flatnonzero(np.diff(cuts)).tolist():
            shard, local = self._shard(s), rows[cuts[s]:cuts[s + 1]] - self._start[s]
            atom, size = packed(shard.atom_ptr, local)
            found = dict(size=size)
            if shard.bond_ptr is not None:
                bond, found['degree'] = packed(shard.bond_ptr, local)
            for name, values in shard.values.items():
                found[name] = values[bond if name.startswith('bond') else atom]
            for name, values in shard.rows.items():
                found[name] = values[local]
            for name, values in found.items():
                parts.setdefault(name, []).append(values)
        return self._joined({name: np.concatenate(values) for name, values in parts.items()}, np.argsort(order))

    def _joined(self, found: dict[str, np.ndarray], place: np.ndarray) -> Data:
        """A batch of what was found, its molecules at their places."""
        ptr = np.concatenate([[0], np.cumsum(found['size'])])
        atom, size = packed(ptr, place)
        starts = np.concatenate([[0], np.cumsum(size)])
        data = Data(z=torch.from_numpy(found['z'][atom].astype(np.int64)), pos=torch.from_numpy(found['pos'][atom]),
                    ptr=torch.from_numpy(starts))
        if self.columns.bonds:
            bond, degree = packed(np.concatenate([[0], np.cumsum(found['degree'])]), place)
            _set_bonds(data, found['bond_index'][bond] + np.repeat(starts[:-1], degree)[:, None],
                       found['bond_order'][bond], found['formal_charge'][atom])
        for name in ('groups', 'properties'):
            if name in found:
                data[name] = torch.from_numpy(found[name][place])
        return data

    def _numbers(self, index: Tensor) -> np.ndarray:
        """Of molecules in the store; of those of this part of it."""
        wanted, size = np.asarray(index, dtype=np.int64), len(self)
        if wanted.ndim != 1 or len(wanted) == 0 or not -size <= wanted.min() <= wanted.max() < size:
            got = f'{wanted.min()} … {wanted.max()}' if wanted.size else 'none'
            raise IndexError(f"'index' must be numbers [B] of the {size} molecules (got {got})")
        wanted = np.where(wanted < 0, wanted + size, wanted)
        chosen = self._indices
        if chosen is None:
            return wanted
        if isinstance(chosen, range):
            return chosen.start + chosen.step * wanted
        if self._index is None or self._index[0] is not chosen:
            self._index = chosen, np.asarray(chosen, dtype=np.int64)
        return self._index[1][wanted]

    @property
    def ptr(self) -> Tensor:
        r"""Offsets of the atoms [M + 1]."""
        sizes = self._sizes if self._indices is None else self._sizes[self._numbers(torch.arange(len(self)))]
        return torch.from_numpy(np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]))

    @cached_property
    def _sizes(self) -> np.ndarray:
        return np.concatenate([np.diff(self._shard(s).atom_ptr) for s in range(len(self._facts))])

    @property
    def domain(self) -> dict[str, Any]:
        r"""Sizes and elements of all molecules of the store: :obj:`num_atoms`, :obj:`num_heavy_atoms` (least, most) and
        :obj:`elements`."""
        spans = {name: (min(facts[name][0] for facts in self._facts), max(facts[name][1] for facts in self._facts))
                 for name in ('num_atoms', 'num_heavy_atoms')}
        return dict(spans, elements=tuple(sorted({z for facts in self._facts for z in facts['elements']})))

    def shuffled(self, generator: torch.Generator) -> Tensor:
        r"""The numbers [M] of the molecules for an epoch in random order: blocks of :obj:`block_size` that stand
        together are drawn at random, and the molecules of 64 of them are shuffled together. So files are read in
        large pieces, and no more than these need to be in memory at a time. A set of fewer molecules is shuffled as a
        whole. It is a sampler, too: :obj:`DataLoader(dataset, sampler=dataset.shuffled(generator).tolist())`."""
        num = len(self)
        blocks = torch.randperm(-(-num // self.block_size), generator=generator)
        order = (blocks.unsqueeze(1) * self.block_size + torch.arange(self.block_size)).view(-1)
        parts = order[order < num].split(WINDOW * self.block_size)
        return torch.cat([part[torch.randperm(part.numel(), generator=generator)] for part in parts])

    def digest(self) -> str:
        r"""SHA-256 of the content, of the choice from it, and of the size of the blocks."""
        digest = hashlib.sha256(json.dumps([facts['sha256'] for facts in self._facts]).encode())
        chosen = self._indices
        if chosen is not None:
            digest.update(self._numbers(torch.arange(len(self))).tobytes())
        digest.update(str(self.block_size).encode())
        return digest.hexdigest()

    def verify(self) -> None:
        r"""Compares all files with the SHA-256 of the manifest.

        Raises:
            ValueError: With the name of the first that was altered.
        """
        for s in range(len(self._facts)):
            self._check(s)

    def _check(self, s: int) -> None:
        path = self.folder / self._facts[s]['file']
        if sha256_of(path) != self._facts[s]['sha256']:
            raise ValueError(f"shard '{path}' was altered, it is not what the manifest says: make it again")
        self._checked.add(s)

    def _shard(self, s: int) -> Shard:
        found = self._shards.get(s)
        if found is None:
            if self.verify_files and s not in self._checked:
                self._check(s)
            path = self.folder / self._facts[s]['file']
            found = self._shards[s] = Shard(open_batch(path, self.columns.schema()), self.columns)
        return found

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__, _shards={})  # a worker maps the files itself


def _set_bonds(data: Data, index: np.ndarray, order: np.ndarray, charge: np.ndarray) -> None:
    ends = torch.from_numpy(index.astype(np.int64).T)
    data.edge_index = torch.cat([ends, ends.flip(0)], dim=1)
    data.edge_attr = torch.from_numpy(order.astype(np.int64)).repeat(2)
    data.formal_charge = torch.from_numpy(charge.astype(np.int64))


def shard_name(number: int) -> str:
    return f'shard-{number:05d}.arrow'


def check_vacant(root: Path) -> None:
    r"""Refuses a folder that holds a store.

    Raises:
        ValueError: If it does.
    """
    if (root / MANIFEST).exists():
        raise ValueError(f"'{root}' holds a store already: choose another folder, or remove this one")


def publish(root: Path, columns: Columns, shards: list[dict[str, Any]], report: dict[str, Any]) -> None:
    r"""Writes the manifest, by which a folder of shards becomes a store.

    Raises:
        ValueError: If there is no molecule.
    """
    if not sum(facts['num_molecules'] for facts in shards):
        raise ValueError(f"a store must hold at least one molecule (got none for '{root}')")
    manifest = dict(format=FORMAT, schema_version=SCHEMA_VERSION, columns=asdict(columns), report=report,
                    num_molecules=sum(facts['num_molecules'] for facts in shards),
                    units=dict(pos='Å', **columns.units), shards=shards)
    text = json.dumps(manifest, indent=1, ensure_ascii=False)
    write_atomically(root / MANIFEST, lambda path: path.write_text(text, encoding='utf-8'))


def read_manifest(root: Path) -> dict[str, Any]:
    r"""What is in a store, once it is sure that its files are there in their whole length.

    Raises:
        FileNotFoundError: If there is no store, or a file is missing.
        ValueError: If it is of another version, empty or damaged.
    """
    path = root / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"'{root}' holds no store of molecules, or an unfinished one (no {MANIFEST})")
    with reading(path):
        manifest = json.loads(path.read_text(encoding='utf-8'))
        if not isinstance(manifest, dict) or manifest.get('format') != FORMAT:
            raise ValueError(f"'{path}' must be of format '{FORMAT}' (got {str(manifest)[:80]})")
        if manifest['schema_version'] != SCHEMA_VERSION:
            raise ValueError(f"'{path}' must be of schema version {SCHEMA_VERSION} (got {manifest['schema_version']}): "
                             'make the store again, or use the version of the package that wrote it')
        if not manifest['shards'] or not all(facts['num_molecules'] > 0 for facts in manifest['shards']):
            raise ValueError(f"'{path}' must name at least one molecule (got an empty store)")
        for name in ('columns', 'report'):
            manifest[name]
    for facts in manifest['shards']:
        shard = root / facts['file']
        if not shard.is_file():
            raise FileNotFoundError(f"shard '{shard}' of the manifest is missing: put it back, or make the store again")
        if shard.stat().st_size != facts['bytes']:
            raise ValueError(f"shard '{shard}' is cut off or was altered: expected {facts['bytes']} bytes "
                             f"(got {shard.stat().st_size})")
    return manifest
