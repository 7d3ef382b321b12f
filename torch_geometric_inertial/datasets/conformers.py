r"""Sets of molecules before and after relaxation, too large for memory."""
from __future__ import annotations

import json
import shutil
import warnings
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data, Dataset
from tqdm import tqdm

from torch_geometric_inertial.chem.conformers import METHODS
from torch_geometric_inertial.chem.relaxation import read_relaxation
from torch_geometric_inertial.datasets.raw_files import raw_sizes
from torch_geometric_inertial.files import locked_folder, sha256_of, write_atomically

VERIFIED = 2**28  #: Bytes of a stored array up to which all of it is checked whenever it is opened.
SHARD = 2000  #: Molecules that are worked on, and written, at a time.
#: Column -> type, and whether it has a row an atom.
COLUMNS: dict[str, tuple[type, bool]] = dict(
    z=(np.uint8, True), pos_relaxed=(np.float32, True), conformers=(np.float32, True), gap=(np.float64, False),
    idx=(np.int64, False), num_conformers=(np.uint8, False), method=(np.uint8, False))


class Record(NamedTuple):
    r"""A molecule of the raw files: its number there, SMILES, molfile with the relaxed geometry, and gap (eV; not a
    number if not known)."""
    idx: int
    smiles: str | None
    block: str | None
    gap: float


class StoredConformers(Dataset):
    r"""Molecules with cheap conformers, made by RDKit, and, where they are known, the relaxed geometry and a gap.

    Each item is a :class:`~torch_geometric.data.Data` with :obj:`z` [N], :obj:`conformers` [N, K, 3] (Å),
    :obj:`num_conformers` [1] (the rest of the K are repetitions), :obj:`pos` [N, 3] (the first conformer),
    :obj:`pos_relaxed` [N, 3] (Å), :obj:`gap` [1] (eV) and :obj:`idx` [1], the molecule's number in the raw files. What
    is not known is not there. Conformers lie on the relaxed geometry, and equivalent atoms stand in the order that fits
    it best, see :func:`~torch_geometric_inertial.chem.relaxation.read_relaxation`.

    Everything is stored as flat arrays that are mapped into memory; :obj:`PackedTargets(*dataset.columns())` is the
    same as a training set. Making conformers of millions of molecules takes days of processor time: it is spread over
    :obj:`num_workers` processes, gives the same for any number of them, and goes on where it was stopped. Molecules
    that cannot be read are left out with a warning, counted and named in :obj:`dataset.report`.
    """
    def __init__(self, root: str, key: str, num_conformers: int, hydrogens: bool, seed: int, num_workers: int,
                 limit: int | None, transform: Callable[[Data], Data] | None):
        if num_conformers < 0 or num_conformers > 255:
            raise ValueError(f"'num_conformers' must be in 0 … 255 (got {num_conformers})")
        if seed < 0 or num_workers < 0:
            raise ValueError(f"'seed' and 'num_workers' must not be negative (got {seed} and {num_workers})")
        if limit is not None and limit < 1:
            raise ValueError(f"'limit' must be at least 1 (got {limit})")
        self.num_conformers, self.hydrogens, self.seed = num_conformers, hydrogens, seed
        self.num_workers, self.limit = num_workers, limit
        self.key = f'{key}-{num_conformers}-conformers-seed-{seed}' + ('-hydrogens' if hydrogens else '')
        if limit is not None:
            self.key += f'-first-{limit}'
        super().__init__(root, transform)
        folder = Path(self.processed_dir) / self.key
        self.report = json.loads((folder / 'report.json').read_text())
        stored = {name: _column(folder / f'{name}.npy', *facts) for name, facts in self.report['files'].items()}
        self._ptr = stored.pop('ptr')
        self._stored = stored

    @abstractmethod
    def records(self) -> Iterator[Record]:
        r"""The molecules of the raw files. Checks the files first."""

    @property
    def processed_file_names(self) -> list[str]:
        return [f'{self.key}/report.json']  # written last

    def _process(self) -> None:
        """What is cut off, or made from raw files of other sizes, is made again; of several processes one makes it."""
        folder = Path(self.processed_dir) / self.key
        if self._fits(folder):
            shutil.rmtree(folder / 'shards', ignore_errors=True)  # of a process that was killed at its very end
            return
        with locked_folder(folder, wait=True):
            if self._fits(folder):  # another process was faster
                return
            if (folder / 'report.json').is_file():
                warnings.warn(f"what is stored in '{folder}' is cut off or of other raw files, and is made again",
                              stacklevel=4)
            for path in (folder / 'report.json', *folder.glob('*.npy')):
                path.unlink(missing_ok=True)
            self.process()

    def _fits(self, folder: Path) -> bool:
        try:
            report = json.loads((folder / 'report.json').read_text())
            return report['raw'] == raw_sizes(self) and all(
                (folder / f'{name}.npy').stat().st_size == size for name, (size, _) in report['files'].items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return False

    def len(self) -> int:
        return self._ptr.numel() - 1

    def get(self, idx: int) -> Data:
        a, b = int(self._ptr[idx]), int(self._ptr[idx + 1])
        data = Data(**{name: (column[a:b] if COLUMNS[name][1] else column[idx:idx + 1]).clone()
                       for name, column in self._stored.items()})
        data.z = data.z.long()
        data.pos = data.pos_relaxed.clone() if self.num_conformers == 0 else data.conformers[:, 0].clone()
        return data

    def columns(self) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        r"""Offsets, columns with a row an atom, and columns with a row a molecule: what
        :class:`~torch_geometric_inertial.training.PackedTargets` is made of. Nothing is copied."""
        atoms = {name: column for name, column in self._stored.items() if COLUMNS[name][1]}
        pos = atoms['pos_relaxed'] if self.num_conformers == 0 else atoms['conformers'][:, 0]
        rows = {name: column for name, column in self._stored.items() if not COLUMNS[name][1]}
        return self._ptr, dict(atoms, pos=pos), rows

    def process(self) -> None:
        folder = Path(self.processed_dir) / self.key
        shards = folder / 'shards'
        made_from = json.dumps(raw_sizes(self))
        note = shards / 'raw.json'
        if shards.is_dir() and (not note.is_file() or note.read_text() != made_from):
            shutil.rmtree(shards)  # of a run that was stopped, and other raw files
        shards.mkdir(parents=True, exist_ok=True)
        write_atomically(note, lambda path: path.write_text(made_from))
        settings = (self.num_conformers, self.hydrogens, self.seed)
        batches = _shards(islice(self.records(), self.limit))
        tasks = ((records, shards / f'{i:06d}.npz', *settings) for i, records in enumerate(batches))
        done = tqdm(_run(tasks, self.num_workers), desc=f'{SHARD} molecules each', disable=not self.log)
        report = _join(list(done), folder)
        if left_out := report['left_out']:
            names = ', '.join(f"{entry['idx']} ({entry['why']})" for entry in left_out[:5])
            warnings.warn(f"{len(left_out)} of {report['read']} molecules are left out: {names}"
                          f"{', …' if len(left_out) > 5 else ''}; all are named in '{folder / 'report.json'}'",
                          stacklevel=2)
        if report['read'] == len(left_out):
            raise ValueError(f"none of the {report['read']} molecules could be read (the first: {left_out[:1]})")
        report['raw'] = raw_sizes(self)
        report['files'] = {path.stem: [path.stat().st_size, sha256_of(path)] for path in sorted(folder.glob('*.npy'))}
        write_atomically(folder / 'report.json', lambda path: path.write_text(json.dumps(report, indent=1)))
        shutil.rmtree(shards)


class ConformerDataset(StoredConformers):
    r"""Own molecules with a relaxed geometry, as :class:`StoredConformers`: their conformers are made from their bonds.

    Args:
        root: Folder of the data; what is stored there is read again if it was made from the same molecules, gaps
            and options, with the same version of RDKit.
        molecules: With :obj:`z`, :obj:`pos` (the relaxed geometry), :obj:`edge_index`, :obj:`edge_attr` (bond orders),
            all hydrogens, and perhaps :obj:`formal_charge` [N].
        gap: Gaps [M], eV.
        num_conformers, hydrogens, seed, num_workers, transform: See
            :class:`~torch_geometric_inertial.datasets.PCQM4Mv2Conformers`.

    Raises:
        ValueError: If there is not one finite gap a molecule.
    """
    def __init__(self, root: str, molecules: Sequence[Data], gap: Tensor, num_conformers: int = 8,
                 hydrogens: bool = False, seed: int = 0, num_workers: int = 0,
                 transform: Callable[[Data], Data] | None = None):
        if gap.shape != (len(molecules), ) or not bool(gap.isfinite().all()):
            raise ValueError(f"'gap' must be {len(molecules)} finite numbers, one a molecule "
                             f"(got {list(gap.shape)}, {int((~gap.isfinite()).sum())} of them not finite)")
        self._molecules, self._gap = molecules, gap
        key = f'molecules-{len(molecules)}-{_content_hash(molecules, gap)}'
        super().__init__(root, key, num_conformers, hydrogens, seed, num_workers, None, transform)

    def records(self) -> Iterator[Record]:
        from torch_geometric_inertial.chem.sdf_block import sdf_block

        for i, (data, gap) in enumerate(zip(self._molecules, self._gap.tolist(), strict=True)):
            yield Record(i, None, sdf_block(data, i, v3000=True), gap)


def _content_hash(molecules: Sequence[Data], gap: Tensor) -> str:
    """Of everything that the stored arrays depend on besides the options, and of what makes them."""
    digest = sha256(json.dumps([list(COLUMNS), version('rdkit'), gap.double().tolist()]).encode())
    for data in molecules:
        for name, value in sorted(data.to_dict().items()):
            if isinstance(value, Tensor):
                value = value.detach().cpu()
                digest.update(f'{name} {value.dtype} {list(value.shape)}\n'.encode())
                digest.update(value.contiguous().numpy().tobytes())
            else:
                digest.update(f'{name} {value!r}\n'.encode())
    return digest.hexdigest()[:16]


def _column(path: Path, size: int, digest: str) -> Tensor:
    """A stored array, mapped into memory. Its content is compared with what was stored where that takes no time."""
    if size <= VERIFIED and sha256_of(path) != digest:
        raise ValueError(f"'{path}' is damaged, it is not what was stored: delete it, and it is made again")
    try:
        return torch.from_numpy(np.load(path, mmap_mode='c'))
    except (ValueError, EOFError, TypeError) as error:
        raise ValueError(f"'{path}' is damaged ({error}): delete it, and it is made again") from error


def check_gaps(idx: Iterable[int], gap: Iterable[float], path: str | Path) -> None:
    r"""Refuses a gap that is no number.

    Raises:
        ValueError: Naming the file and the row.
    """
    for i, value in zip(idx, gap, strict=True):
        if not np.isfinite(value):
            raise ValueError(f"{path}: the gap of molecule {i} must be finite (got {value})")


def _shards(records: Iterator[Record]) -> Iterator[list[Record]]:
    while shard := list(islice(records, SHARD)):
        yield shard


def _run(tasks: Iterator[tuple], num_workers: int) -> Iterator[Path]:
    r"""Does the tasks in order; with several processes, a few are read ahead, not all."""
    if num_workers == 0:
        yield from (_write_shard(*task) for task in tasks)
        return
    with ProcessPoolExecutor(num_workers) as pool:
        waiting: deque[Future] = deque()
        for task in tasks:
            waiting.append(pool.submit(_write_shard, *task))
            if len(waiting) > 2 * num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _write_shard(records: list[Record], path: Path, num_conformers: int, hydrogens: bool, seed: int) -> Path:
    if path.is_file():  # of an earlier run that was stopped
        return path
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    columns: dict[str, list] = {name: [] for name in COLUMNS}
    size, left_out = [], []
    for record in records:
        try:
            found = read_relaxation(record.smiles, record.block, num_conformers, hydrogens,
                                    (1_000_003 * seed + record.idx) % 2**31)
        except (ValueError, RuntimeError) as error:  # RDKit raises both
            name = record.smiles or (record.block or '').split('\n', 1)[0].strip()
            left_out.append(dict(idx=record.idx, name=name, why=str(error).strip().split('\n')[0]))
            continue
        size.append(len(found.z))
        gap = None if np.isnan(record.gap) else record.gap
        for name, value in dict(found._asdict(), pos_relaxed=found.relaxed, gap=gap, idx=record.idx).items():
            if value is not None and name in COLUMNS:
                kind, per_atom = COLUMNS[name]
                columns[name].append(np.asarray(value if per_atom else [value], dtype=kind))
    torch.set_num_threads(threads)
    arrays: dict[str, Any] = {name: np.concatenate(parts) for name, parts in columns.items() if parts}

    def write(temporary: Path) -> None:
        with open(temporary, 'wb') as file:
            np.savez(file, size=np.array(size, dtype=np.int64), left_out=json.dumps(left_out), read=len(records),
                     **arrays)
    return write_atomically(path, write)


def _join(paths: list[Path], folder: Path) -> dict:
    r"""Puts shards together, one file a column, and says what they hold."""
    left_out: list[dict] = []
    parts, kept, read, methods = [], [], 0, np.zeros(len(METHODS), dtype=np.int64)
    for path in paths:
        with np.load(path) as shard:
            left_out += json.loads(str(shard['left_out']))
            read += int(shard['read'])
            if len(shard['size']):
                kept.append(path)
                parts.append(shard['size'])
                if 'method' in shard.files:
                    methods += np.bincount(shard['method'], minlength=len(METHODS))
    if kept:
        sizes = np.concatenate(parts)
        ptr = np.concatenate([[0], np.cumsum(sizes)])
        write_atomically(folder / 'ptr.npy', lambda path: _write_column(path, ptr.dtype, ptr.shape, [ptr]))
        with np.load(kept[0]) as shard:
            shapes = {name: shard[name].shape[1:] for name in COLUMNS if name in shard.files}
        for name, shape in shapes.items():
            rows = int(ptr[-1]) if COLUMNS[name][1] else len(sizes)
            write_atomically(folder / f'{name}.npy', partial(_write_column, dtype=np.dtype(COLUMNS[name][0]),
                                                             shape=(rows, *shape), parts=_parts(kept, name)))
    return dict(read=read, molecules=read - len(left_out), made_by=dict(zip(METHODS, methods.tolist(), strict=True)),
                left_out=left_out)


def _parts(shards: list[Path], name: str) -> Iterator[np.ndarray]:
    for path in shards:
        with np.load(path) as shard:
            yield shard[name]


def _write_column(path: Path, dtype: np.dtype, shape: tuple[int, ...], parts: Iterable[np.ndarray]) -> None:
    """An .npy file, part by part. Not through a map into memory: on a full disk that ends the process by a signal."""
    with open(path, 'wb') as file:
        np.lib.format.write_array_header_1_0(
            file, dict(descr=np.lib.format.dtype_to_descr(dtype), fortran_order=False, shape=shape))
        for part in parts:
            file.write(np.ascontiguousarray(part, dtype).tobytes())
