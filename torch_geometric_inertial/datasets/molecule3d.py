r"""Molecule3D: DFT geometries and HOMO-LUMO gaps of 3.9 million molecules."""
from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator

from torch_geometric.data import Data

from torch_geometric_inertial.chem.sdf import count_sdf, sdf_blocks
from torch_geometric_inertial.datasets.conformers import Record, StoredConformers, check_gaps
from torch_geometric_inertial.files import reading

SOURCE = 'https://drive.google.com/drive/folders/1y-EyoDYMvWZwClc2uvXrM4_hQBtM85BI'
SDF = ('combined_mols_0_to_1000000.sdf', 'combined_mols_1000000_to_2000000.sdf',
       'combined_mols_2000000_to_3000000.sdf', 'combined_mols_3000000_to_3899647.sdf')
SPLITS = dict(train='train', val='valid', test='test')


class Molecule3D(StoredConformers):
    r"""Molecule3D (Xu et al. 2021, arXiv:2110.01717) as a :class:`StoredConformers`: 3,899,647 molecules of PubChemQC
    with DFT geometries (B3LYP/6-31G*) and HOMO-LUMO gap (eV), split 6 : 2 : 2.

    The official files go to :obj:`root/raw`: four :obj:`combined_mols_*.sdf`, :obj:`properties.csv` and
    :obj:`random_split_inds.json` or :obj:`scaffold_split_inds.json`. They are in a folder that has to be fetched with a
    browser, and no hashes are published. Molecules stand in the order of the files.

    With :obj:`num_conformers=0` items have the DFT geometry as :obj:`pos`, for models that read a gap off it; RDKit is
    then not asked what it thinks of the molecules.

    Args:
        root: Folder of the data.
        split: :obj:`'train'`, :obj:`'val'` or :obj:`'test'`. (default: :obj:`'train'`)
        split_mode: :obj:`'random'` or :obj:`'scaffold'`. (default: :obj:`'random'`)
        num_conformers: K, at most so many of a molecule. (default: :obj:`8`)
        hydrogens: Whether to keep hydrogens. (default: :obj:`True`)
        seed, num_workers, limit, transform: See :class:`~torch_geometric_inertial.datasets.PCQM4Mv2Conformers`.

    Raises:
        FileNotFoundError: If an official file is missing.
        ValueError: If an argument makes no sense, or the raw files do not fit together.
    """
    def __init__(self, root: str, split: str = 'train', split_mode: str = 'random', num_conformers: int = 8,
                 hydrogens: bool = True, seed: int = 0, num_workers: int = 0, limit: int | None = None,
                 transform: Callable[[Data], Data] | None = None):
        if split not in SPLITS:
            raise ValueError(f"'split' must be one of {', '.join(SPLITS)} (got '{split}')")
        if split_mode not in ('random', 'scaffold'):
            raise ValueError(f"'split_mode' must be 'random' or 'scaffold' (got '{split_mode}')")
        self.split, self.split_mode = split, split_mode
        super().__init__(root, f'{split_mode}-{split}', num_conformers, hydrogens, seed, num_workers, limit, transform)

    @property
    def raw_file_names(self) -> list[str]:
        return ['properties.csv', f'{self.split_mode}_split_inds.json', *SDF]

    def download(self) -> None:
        missing = [name for name, path in zip(self.raw_file_names, self.raw_paths, strict=True)
                   if not os.path.isfile(path)]
        raise FileNotFoundError(f"'{self.raw_dir}' lacks {', '.join(missing)}: fetch them from {SOURCE}")

    def records(self) -> Iterator[Record]:
        table, splits, *sdf = self.raw_paths
        gap = _read_gaps(table)
        if (count := sum(map(count_sdf, sdf))) != len(gap):
            raise ValueError(f"{table}: expected a row of each of the {count} molecules of the SDF files "
                             f"(got {len(gap)})")
        with reading(splits), open(splits) as file:
            members = sorted(json.load(file)[SPLITS[self.split]])
        if members and not 0 <= members[0] <= members[-1] < len(gap):
            raise ValueError(f"{splits}: the split names molecules {members[0]} to {members[-1]}, "
                             f"but there are {len(gap)}")
        check_gaps(members, (gap[i] for i in members), table)
        wanted = iter(members)
        i = next(wanted, None)
        for number, block in enumerate(block for path in sdf for block in sdf_blocks(path)):
            if number == i:
                yield Record(number, None, block, gap[number])
                i = next(wanted, None)
            if i is None:
                return


def _read_gaps(path: str) -> list[float]:
    with reading(path), open(path, newline='') as file:
        rows = csv.DictReader(file)
        if 'homolumogap' not in (rows.fieldnames or ()):
            raise ValueError(f"{path}: needs a column 'homolumogap' (got {rows.fieldnames})")
        return [float(row['homolumogap'] or 'nan') for row in rows]
