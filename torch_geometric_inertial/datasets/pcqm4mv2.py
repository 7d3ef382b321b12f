r"""PCQM4Mv2 with geometries: conformers in, DFT geometry and HOMO-LUMO gap out."""
from __future__ import annotations

import csv
import gzip
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch_geometric.data import Data, extract_tar, extract_zip
from torch_geometric.datasets import PCQM4Mv2 as PCQM4Mv2Graphs

from torch_geometric_inertial.chem.sdf import count_sdf, sdf_blocks
from torch_geometric_inertial.datasets.conformers import Record, StoredConformers, check_gaps
from torch_geometric_inertial.datasets.raw_files import download
from torch_geometric_inertial.files import reading

SDF_URL = 'http://ogb-data.stanford.edu/data/lsc/pcqm4m-v2-train.sdf.tar.gz'
SDF_MD5 = 'fd72bce606e7ddf36c2a832badeec6ab'  #: Published beside it.


class PCQM4Mv2Conformers(StoredConformers):
    r"""PCQM4Mv2 of the OGB Large-Scale Challenge (Hu et al. 2021, arXiv:2103.09430; CC BY 4.0) as a
    :class:`StoredConformers`: RDKit conformers of 3,746,620 molecules, their HOMO-LUMO gap (eV, B3LYP/6-31G*), and the
    DFT geometry of the 3,378,606 for training.

    The graphs without geometry are :class:`torch_geometric.datasets.PCQM4Mv2`; both share a folder, and its files are
    not downloaded again. Of the geometries, 1.5 GB are downloaded and compared with the published MD5. The k-th of them
    belongs to the k-th training molecule of :obj:`split_dict.pt`; its atoms stand in another order than those of the
    SMILES and are matched. The published models read heavy atoms alone.

    Args:
        root: Folder of the data.
        split: :obj:`'train'`, :obj:`'val'`, :obj:`'test'` (test-dev) or :obj:`'holdout'` (test-challenge); the last two
            have no gaps, and but the first has geometries. (default: :obj:`'train'`)
        num_conformers: K, at most so many of a molecule; with 0, items have the DFT geometry alone.
            (default: :obj:`8`)
        hydrogens: Whether to keep hydrogens. (default: :obj:`False`)
        seed: Of the conformers. (default: :obj:`0`)
        num_workers: Processes that make them; with 0 it is done here. (default: :obj:`0`)
        limit: Only the first so many molecules of the split.
        transform: Applied to an item whenever it is read.

    Raises:
        ValueError: If the split or an argument makes no sense, the download is damaged, or the raw files do not fit
            together.
    """
    split_mapping = PCQM4Mv2Graphs.split_mapping

    def __init__(self, root: str, split: str = 'train', num_conformers: int = 8, hydrogens: bool = False,
                 seed: int = 0, num_workers: int = 0, limit: int | None = None,
                 transform: Callable[[Data], Data] | None = None):
        if split not in self.split_mapping:
            raise ValueError(f"'split' must be one of {', '.join(self.split_mapping)} (got '{split}')")
        if num_conformers == 0 and split != 'train':
            raise ValueError(f"'num_conformers' must be at least 1 where no geometry is published (got 0, '{split}')")
        self.split = split
        super().__init__(root, split, num_conformers, hydrogens, seed, num_workers, limit, transform)

    @property
    def processed_dir(self) -> str:
        return os.path.join(self.root, 'conformers')  # 'processed' is the graphs'

    @property
    def raw_file_names(self) -> list[str]:
        names = ['pcqm4m-v2/raw/data.csv.gz', 'pcqm4m-v2/split_dict.pt']
        return [*names, 'pcqm4m-v2-train.sdf'] if self.split == 'train' else names

    def download(self) -> None:
        paths = [Path(path) for path in self.raw_paths]
        if not all(path.is_file() for path in paths[:2]):
            archive = download(PCQM4Mv2Graphs.url, self.raw_dir)
            with reading(archive):
                extract_zip(archive, self.raw_dir)
            os.unlink(archive)
        if not all(path.is_file() for path in paths[2:]):
            archive = download(SDF_URL, self.raw_dir)
            check_md5(archive, SDF_MD5)
            extract_tar(archive, self.raw_dir)
            os.unlink(archive)

    def records(self) -> Iterator[Record]:
        table, splits, *sdf = self.raw_paths
        members = np.asarray(read_split(splits)[self.split_mapping[self.split]], dtype=np.int64).tolist()
        smiles, gap = _read_table(table, members)
        if self.split in ('train', 'val'):
            check_gaps(members, gap, table)
        blocks: Iterator[str | None] = iter([None] * len(members))
        if sdf:
            if (count := count_sdf(sdf[0])) != len(members):
                raise ValueError(f"{sdf[0]}: expected a geometry of each training molecule, {len(members)} "
                                 f"(got {count})")
            blocks = iter(sdf_blocks(sdf[0]))
        for i, text, block, value in zip(members, smiles, blocks, gap, strict=True):
            yield Record(i, text, block, value)


def read_split(path: str | Path) -> dict:
    r"""The dictionary of NumPy arrays in a file of :func:`torch.save`, by a loader that runs no code."""
    known: list[Any] = [np.ndarray, np.dtype, type(np.dtype(np.int64)), type(np.dtype(np.int32))]
    rebuild = np.zeros(0).__reduce__()[0]
    known += [(rebuild, f'numpy.{core}.multiarray._reconstruct') for core in ('core', '_core')]
    with reading(path), torch.serialization.safe_globals(known):
        return torch.load(path, weights_only=True)


def check_md5(path: str | Path, expected: str) -> None:
    r"""Compares a file with its published MD5.

    Raises:
        ValueError: If they differ; the file is removed.
    """
    digest = hashlib.md5()
    with open(path, 'rb') as file:
        while part := file.read(2**20):
            digest.update(part)
    if digest.hexdigest() != expected:
        os.unlink(path)
        raise ValueError(f"the download '{path}' is damaged, and removed: expected MD5 {expected} "
                         f"(got {digest.hexdigest()})")


def _read_table(path: str | Path, members: list[int]) -> tuple[list[str], list[float]]:
    r"""SMILES and gap of the rows :obj:`members`; not a number where there is none."""
    with reading(path), gzip.open(path, 'rt', newline='') as file:
        rows = csv.DictReader(file)
        missing = {'smiles', 'homolumogap'} - set(rows.fieldnames or ())
        if missing:
            raise ValueError(f"{path}: needs columns 'smiles' and 'homolumogap' (got {rows.fieldnames})")
        table = [(row['smiles'], float(row['homolumogap'] or 'nan')) for row in rows]
    if members and not 0 <= min(members) <= max(members) < len(table):
        raise ValueError(f"{path}: the split names rows {min(members)} to {max(members)}, "
                         f"but there are {len(table)}")
    smiles, gap = zip(*(table[i] for i in members), strict=True) if members else ((), ())
    return list(smiles), list(gap)
