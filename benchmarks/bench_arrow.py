r"""Molecules on disk: `ArrowMolecules` beside PyG's `OnDiskDataset` (SQLite) and LMDB: time to open, memory, random and
sequential molecules per second.

    python benchmarks/bench_arrow.py --num 5000000 --rivals 1000000

The records are the 10,000 real molecules of `QM9Sample`, with bonds and charges, drawn again and again. The
rivals hold the same columns, SQLite with a schema, LMDB as the bytes of arrays; they may be given fewer records, which
helps them. Each store is opened by a fresh process; files are as warm as writing left them.
"""
import argparse
import multiprocessing
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path

import lmdb
import numpy as np
import torch
from qm9_arrays import machine
from torch_geometric.data import Data, OnDiskDataset

from torch_geometric_inertial.datasets import ArrowMolecules, QM9Sample
from torch_geometric_inertial.datasets.arrow import SHARD_MOLECULES, publish, shard_name
from torch_geometric_inertial.datasets.arrow_shards import Columns, Row, row_of, write_shard

BATCH, SEQUENTIAL = 128, 200_000
FIELDS = dict(z=np.uint8, pos=np.float32, bond_index=np.int16, bond_order=np.uint8, formal_charge=np.int8)
SHAPES = dict(pos=(-1, 3), bond_index=(-1, 2))
COLUMNS = Columns(True, (), (), {})


def records(num: int, chunk: int):
    rows = [row_of(data, COLUMNS) for data in QM9Sample()]
    rng = np.random.default_rng(0)
    for start in range(0, num, chunk):
        yield [rows[i] for i in rng.integers(len(rows), size=min(chunk, num - start))]


def arrays_of(row: Row) -> dict[str, np.ndarray]:
    return {name: np.ascontiguousarray(getattr(row, name), dtype=dtype) for name, dtype in FIELDS.items()}


def write_arrow(root: Path, num: int) -> None:
    root.mkdir(parents=True)
    shards = [write_shard(root / shard_name(k), rows, COLUMNS) for k, rows in enumerate(records(num, SHARD_MOLECULES))]
    publish(root, COLUMNS, shards, dict(read=num, dropped={}))


class OnDisk(OnDiskDataset):
    def __init__(self, root: Path):
        schema = {name: dict(dtype=torch.from_numpy(np.zeros(0, dtype)).dtype, size=SHAPES.get(name, (-1, )))
                  for name, dtype in FIELDS.items()}
        super().__init__(str(root), schema=schema, log=False)

    def serialize(self, row: Row) -> dict:
        return {name: torch.from_numpy(array) for name, array in arrays_of(row).items()}

    def deserialize(self, found: dict) -> Data:
        return Data.from_dict(found)


def write_sqlite(root: Path, num: int) -> None:
    data = OnDisk(root)
    for rows in records(num, 20_000):
        data.extend(rows, batch_size=20_000)
    data.close()


def write_lmdb(root: Path, num: int) -> None:
    with lmdb.open(str(root), map_size=2**36) as store:
        key = 0
        for rows in records(num, 50_000):
            with store.begin(write=True) as transaction:
                for row in rows:
                    parts = [array.tobytes() for array in arrays_of(row).values()]
                    transaction.put(key.to_bytes(8, 'big'), struct.pack('5I', *map(len, parts)) + b''.join(parts))
                    key += 1


class LMDB:
    def __init__(self, root: Path):
        self.store = lmdb.open(str(root), readonly=True, lock=False, readahead=False)
        self.transaction = self.store.begin()

    def __len__(self) -> int:
        return self.store.stat()['entries']

    def __getitem__(self, index: int) -> Data:
        content = self.transaction.get(index.to_bytes(8, 'big'))
        start, found = 20, {}
        for (name, dtype), size in zip(FIELDS.items(), struct.unpack('5I', content[:20]), strict=True):
            array = np.frombuffer(content, dtype, size // np.dtype(dtype).itemsize, start).copy()
            found[name], start = torch.from_numpy(array).view(SHAPES.get(name, (-1, ))), start + size
        return Data.from_dict(found)


STORES: dict[str, tuple[Callable, Callable]] = {
    'ArrowMolecules': (write_arrow, ArrowMolecules),
    'OnDiskDataset (SQLite)': (write_sqlite, OnDisk),
    'LMDB': (write_lmdb, LMDB),
}


def resident() -> dict[str, float]:
    """Resident memory, MB: the process's own, and pages of files, which the system takes back when it needs them."""
    lines = dict(line.split(':', 1) for line in Path('/proc/self/status').read_text().splitlines())
    return dict(own=int(lines['RssAnon'].split()[0]) / 1024, mapped=int(lines['RssFile'].split()[0]) / 1024)


def measure(name: str, root: Path, answers: multiprocessing.Queue) -> None:
    """In a process of its own: seconds to open, molecules per second, memory that the reading took."""
    torch.set_num_threads(1)
    before = resident()
    start = time.perf_counter()
    data = STORES[name][1](root)
    data[0]
    found = dict(records=len(data), open=time.perf_counter() - start)
    start = time.perf_counter()
    if isinstance(data, ArrowMolecules):
        data.verify()  # SHA-256 of each file, which else comes with its first molecule
    found['verify'] = time.perf_counter() - start
    generator = torch.Generator().manual_seed(0)

    def rate(read: Callable, indices: list) -> float:
        start, count = time.perf_counter(), 0
        for index in indices:
            read(index)
            count += len(index) if hasattr(index, '__len__') else 1
        return count / (time.perf_counter() - start)

    found['items'] = rate(data.__getitem__, torch.randint(len(data), (5000, ), generator=generator).tolist())
    batches = list(torch.randint(len(data), (300, BATCH), generator=generator))
    if isinstance(data, ArrowMolecules):
        found['random'] = rate(data.batch, batches)
        found['sequential'] = rate(data.batch, list(torch.arange(SEQUENTIAL).split(BATCH)))
    else:
        several = data.multi_get if isinstance(data, OnDisk) else lambda index: [data[i] for i in index]
        found['random'] = rate(several, [batch.tolist() for batch in batches])
        found['sequential'] = rate(several, [batch.tolist() for batch in torch.arange(SEQUENTIAL).split(BATCH)])
    found |= {kind: value - before[kind] for kind, value in resident().items()}
    answers.put(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--num', type=int, default=1_000_000, help='records of ours')
    parser.add_argument('--rivals', type=int, help='records of the others; as many if left out')
    parser.add_argument('--root', type=Path, default=Path('runs/bench_arrow'), help='a folder that is written anew')
    args = parser.parse_args()
    torch.set_num_threads(1)
    shutil.rmtree(args.root, ignore_errors=True)
    print(f'{machine(1)}; molecules per second, batches of {BATCH} unless it says one by one\n\n'
          '| | records | written, s | on disk, GB | open, s | verify, s | random, one by one | random | sequential | '
          'own memory, MB | mapped, MB |\n|---|---|---|---|---|---|---|---|---|---|---|')
    spawn = multiprocessing.get_context('spawn')
    for k, (name, (write, _)) in enumerate(STORES.items()):
        root = args.root / str(k)
        start = time.perf_counter()
        root.parent.mkdir(parents=True, exist_ok=True)
        write(root, args.num if k == 0 else args.rivals or args.num)
        written = time.perf_counter() - start
        size = sum(path.stat().st_blocks * 512 for path in root.rglob('*') if path.is_file()) / 1e9
        answers = spawn.Queue()
        process = spawn.Process(target=measure, args=(name, root, answers))
        process.start()
        found = answers.get(timeout=3600)
        process.join()
        numbers = (f"{found['records']:,}", f'{written:.0f}', f'{size:.2f}', f"{found['open']:.3f}",
                   f"{found['verify']:.1f}", *(f'{found[kind]:,.0f}' for kind in (
                       'items', 'random', 'sequential', 'own', 'mapped')))
        print(' | '.join((f'| {name}', *numbers)) + ' |', flush=True)


if __name__ == '__main__':
    main()
