r"""From files of molecules to a store of molecules in canonical form, in parallel, over machines and interruptions.

Files are cut into pieces. Each becomes a file of the store by itself, whole or not at all, so that what was done is
known whatever happened to who did it; Ray spreads the work, and does again what a dead process left undone.
"""
from __future__ import annotations

import functools
import json
import logging
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from torch_geometric_inertial.chem.pieces import pieces_of
from torch_geometric_inertial.datasets.arrow import (
    MANIFEST,
    SHARD_ATOMS,
    SHARD_MOLECULES,
    ArrowMolecules,
    check_vacant,
    publish,
    read_manifest,
    shard_name,
)
from torch_geometric_inertial.datasets.arrow_shards import Columns, open_batch, pyarrow, write_batch
from torch_geometric_inertial.datasets.prepare_piece import EXAMPLES, Check, Preparation, Source, prepare_piece
from torch_geometric_inertial.files import locked_folder, write_atomically

PIECES, SETTINGS = 'pieces', 'settings.json'
PIECE_BYTES = 2**22  #: Of a source that one process works on at a time.


def prepare(sources: Sequence[str | Path | Source], root: str | Path, order: str = 'heavy_first',
            groups: str | None = None, properties: Sequence[str] = (), max_atoms: int = 1000, num_workers: int = 2,
            address: str | None = None, check: Check | None = None, progress: bool = False,
            piece_bytes: int = PIECE_BYTES) -> ArrowMolecules:
    r"""Makes a store of the molecules of files: bonds where they are missing, canonical frame and order, groups.

    The molecules stand in the store in the order of the sources. One that cannot be read, or is not one connected
    molecule of heavy atoms with bonds, is left out; :obj:`dataset.report` tells how many were for which reason, with
    examples. Called again after it was stopped or killed, it goes on, and what comes out is the same.

    Args:
        sources: SDF, JSONL, XYZ or PDB files, as :func:`~torch_geometric_inertial.chem.read_records` reads them, or
            pieces of data sets. SDF and JSONL files are read in pieces by several processes.
        root: Folder of the store; all machines see it and the sources under the same names.
        order, groups, properties, max_atoms: See :class:`Preparation`.
        num_workers (int): Processes of Ray, if it is started here; with 0 it is done in this one, without Ray.
        address (str, optional): Of a running Ray cluster, all of which is used.
        check (callable, optional): Raises :obj:`ValueError` if a packed batch holds a molecule that is not wanted.
        progress (bool): Whether to show a progress bar.
        piece_bytes (int): About so much of a file is worked on at a time.

    Raises:
        FileNotFoundError: If a source is missing.
        ImportError: Without pyarrow, or without ray where it is needed.
        OSError: If the store cannot be written, such as for lack of space. It can be gone on with.
        ValueError: If there is no source, an argument makes no sense, no molecule is left, another process writes to
            the folder, or it holds another store, or the beginning of one of other sources or options.
    """
    if num_workers < 0 or piece_bytes < 1:
        raise ValueError(f"'num_workers' must not be negative and 'piece_bytes' at least 1 (got {num_workers} and "
                         f'{piece_bytes})')
    if not sources:
        raise ValueError("'sources' must name at least one file (got none)")
    wanted, root = Preparation(order, groups, tuple(properties), max_atoms), Path(root)
    pieces: list[Any] = [piece for source in sources
                         for piece in (pieces_of(source, piece_bytes) if isinstance(source, str | Path) else [source])]
    settings = json.loads(json.dumps(dict(asdict(wanted), pieces=[repr(piece) for piece in pieces])))
    pyarrow()
    with locked_folder(root):
        if (root / MANIFEST).exists() and read_manifest(root)['report'].get('settings') == settings:
            shutil.rmtree(root / PIECES, ignore_errors=True)
            return ArrowMolecules(root)
        check_vacant(root)
        folder = _begun(root, settings)
        paths = [folder / f'{i:06d}.arrow' for i in range(len(pieces))]
        todo = [i for i, path in enumerate(paths) if not path.is_file()]
        work = functools.partial(_work, pieces=pieces, paths=[str(path.resolve()) for path in paths], wanted=wanted,
                                 check=check)
        start = time.monotonic()
        with tqdm(total=sum(piece.size for piece in pieces), unit='B', unit_scale=True, disable=not progress) as bar:
            bar.update(sum(pieces[i].size for i in set(range(len(pieces))) - set(todo)))
            for done in _spread(work, todo, num_workers, address):
                if done['error']:
                    raise OSError(f"{done['error']}; what is done is kept: call it again to go on")
                bar.update(pieces[done['number']].size)
                bar.set_postfix_str(f"{done['read'] / max(done['seconds'], 1e-9):,.0f} molecules/s per core")
        report = _report([json.loads(open_batch(path).schema.metadata[b'report']) for path in paths])
        report.update(settings=settings, minutes_of_this_run=round((time.monotonic() - start) / 60, 3))
        if not report['read'] - report['num_dropped']:
            raise ValueError(f"none of the {report['read']} molecules is left: {_most(report['dropped'])}")
        for name, known in zip(wanted.properties, report['known'], strict=True):
            if not known:
                warnings.warn(f"no molecule has '{name}'", stacklevel=2)
        publish(root, wanted.columns(), list(_joined(paths, root, wanted.columns())), report)
        shutil.rmtree(folder)
    return ArrowMolecules(root)


def _begun(root: Path, settings: dict[str, Any]) -> Path:
    r"""The folder of finished pieces, once it is sure that they are of the same sources and options."""
    path = root / PIECES / SETTINGS
    if path.is_file():
        there = json.loads(path.read_text(encoding='utf-8'))
        if there != settings:
            differ = [name for name in settings if there.get(name) != settings[name]]
            raise ValueError(f"'{root}' holds the beginning of a store with other {', '.join(differ)}: choose another "
                             'folder, or remove this one')
    else:
        text = json.dumps(settings, indent=1)
        write_atomically(path, lambda temporary: temporary.write_text(text, encoding='utf-8'))
    return path.parent


def _spread(work: Callable[[dict], dict], todo: list[int], num_workers: int, address: str | None
            ) -> Iterator[dict[str, Any]]:
    r"""Does the work on the numbers and yields what comes of each as it comes."""
    if num_workers == 0 and address is None:
        yield from (work(dict(number=i)) for i in todo)
    elif todo:
        yield from _spread_by_ray(work, todo, num_workers, address)


def _spread_by_ray(work: Callable[[dict], dict], todo: list[int], num_workers: int, address: str | None
                   ) -> Iterator[dict[str, Any]]:
    with _ray(num_workers, address) as ray:
        items = ray.data.from_items([dict(number=i) for i in todo], override_num_blocks=len(todo))
        yield from items.map(work, num_cpus=1).iter_rows()


@contextmanager
def _ray(num_workers: int, address: str | None) -> Iterator[Any]:
    r"""Ray, started here and stopped again unless it runs already.

    Raises:
        ImportError: With what to install.
    """
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError("preparing molecules needs Ray Data: pip install 'torch_geometric_inertial[scale]'"
                          ) from error
    context, log, running = ray.data.DataContext.get_current(), logging.getLogger('ray.data'), ray.is_initialized()
    bars, level = context.enable_progress_bars, log.level
    if not running:
        here = dict(address=address) if address else dict(num_cpus=num_workers, include_dashboard=False)
        ray.init(**here, logging_level=logging.ERROR, log_to_driver=False)
    context.enable_progress_bars = False
    log.setLevel('ERROR')
    try:
        yield ray
    finally:
        context.enable_progress_bars = bars
        log.setLevel(level)
        if not running:
            ray.shutdown()


def _work(item: dict[str, Any], pieces: list[Any], paths: list[str], wanted: Preparation, check: Check | None
          ) -> dict[str, Any]:
    r"""What a process of Ray does: one piece, and how it went."""
    number = int(item['number'])
    try:
        report = prepare_piece(pieces[number], Path(paths[number]), wanted, check)
    except OSError as error:
        return dict(number=number, error=str(error), read=0, seconds=0.0)
    return dict(number=number, error='', read=report['read'], seconds=report['seconds'])


def _report(parts: list[dict[str, Any]]) -> dict[str, Any]:
    r"""The reports of all pieces as one."""
    dropped: dict[str, dict[str, Any]] = {}
    for part in parts:
        for reason, told in part['dropped'].items():
            whole = dropped.setdefault(reason, dict(count=0, examples=[]))
            whole['count'] += told['count']
            whole['examples'] = (whole['examples'] + told['examples'])[:EXAMPLES]
    seconds = sum(part['seconds'] for part in parts)
    read = sum(part['read'] for part in parts)
    return dict(read=read, num_dropped=sum(told['count'] for told in dropped.values()),
                dropped=dict(sorted(dropped.items(), key=lambda item: -item[1]['count'])),
                known=[sum(numbers) for numbers in zip(*(part['known'] for part in parts), strict=True)],
                core_seconds=round(seconds, 2), molecules_per_core_second=round(read / max(seconds, 1e-9), 1))


def _most(dropped: dict[str, dict[str, Any]]) -> str:
    return next((told['examples'][0] for told in dropped.values()), 'the sources hold none')


def _joined(paths: list[Path], root: Path, columns: Columns) -> Iterator[dict[str, Any]]:
    r"""Puts pieces together to shards, and yields what the manifest says of each."""
    pa, schema = pyarrow(), columns.schema()
    number, waiting, molecules, atoms = 0, [], 0, 0  # type: int, list[Any], int, int

    def flush() -> dict[str, Any]:
        whole = pa.Table.from_batches(waiting, schema).combine_chunks().to_batches()[0]
        return write_batch(root / shard_name(number), whole)
    for path in paths:
        batch = open_batch(path)
        batch = pa.RecordBatch.from_arrays(batch.columns, schema=schema)
        size = len(batch.column('z').values)
        if waiting and (molecules + len(batch) > SHARD_MOLECULES or atoms + size > SHARD_ATOMS):
            yield flush()
            number, waiting, molecules, atoms = number + 1, [], 0, 0
        if len(batch):
            waiting.append(batch)
            molecules, atoms = molecules + len(batch), atoms + size
    if waiting:
        yield flush()
