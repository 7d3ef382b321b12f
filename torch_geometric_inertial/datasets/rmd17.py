r"""Revised MD17: frames of molecular dynamics of ten small molecules, with energies and forces."""
from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from json import loads
from pathlib import Path

import numpy as np
import torch
from torch_geometric.data import Data

from torch_geometric_inertial.datasets.checked import CheckedInMemoryDataset
from torch_geometric_inertial.datasets.raw_files import download
from torch_geometric_inertial.files import reading

NAMES = ('aspirin', 'azobenzene', 'benzene', 'ethanol', 'malonaldehyde', 'naphthalene', 'paracetamol', 'salicylic',
         'toluene', 'uracil')
COMMIT = '4f6bb0a186822c90d47cd98b7a27991fe0b3173b'
URL = f'https://raw.githubusercontent.com/andersx/rmd17-npz/{COMMIT}/rmd17-npz'


class RevisedMD17(CheckedInMemoryDataset):
    r"""One of the five official splits of revised MD17 (Christensen & von Lilienfeld 2020, arXiv:2007.09593; CC0).

    PBE/def2-SVP energies and forces of frames drawn from the trajectories of MD17. Its authors ask to train on no more
    than 1,000 frames, since neighboring frames are alike. Each item is a :class:`~torch_geometric.data.Data` with
    :obj:`z` [N], :obj:`pos` [N, 3] (Å), :obj:`energy` [1] (kcal/mol, float64: totals are large) and :obj:`force` [N, 3]
    (kcal/mol/Å).

    :obj:`root/raw` may hold the official files :obj:`rmd17_{name}_{train|test}_{split:02d}.npz` (downloaded, 2 MB a
    split, if they are not there) or one :obj:`rmd17_{name}.npz` with the union of frames (:obj:`z`, :obj:`R`, :obj:`E`,
    :obj:`F`, :obj:`split_train_01` …). Either is compared with stored means of energy, force and position.

    Args:
        root: Folder of the data.
        name: :obj:`'aspirin'`, :obj:`'azobenzene'`, :obj:`'benzene'`, :obj:`'ethanol'`, :obj:`'malonaldehyde'`,
            :obj:`'naphthalene'`, :obj:`'paracetamol'`, :obj:`'salicylic'`, :obj:`'toluene'` or :obj:`'uracil'`.
        train: The 1,000 frames for training, or the 1,000 for test. (default: :obj:`True`)
        split: 1 to 5. (default: :obj:`1`)
        transform: Applied to an item whenever it is read.
        pre_transform: Applied to every item once, before it is stored.
        pre_filter: Which items to keep.

    Raises:
        ValueError: If there is no such molecule or split, or the frames on disk are not those of the official split.
    """
    def __init__(
        self,
        root: str,
        name: str,
        train: bool = True,
        split: int = 1,
        transform: Callable[[Data], Data] | None = None,
        pre_transform: Callable[[Data], Data] | None = None,
        pre_filter: Callable[[Data], bool] | None = None,
    ):
        if name not in NAMES:
            raise ValueError(f"'name' must be one of {', '.join(NAMES)} (got '{name}')")
        if split not in range(1, 6):
            raise ValueError(f"'split' must be 1 to 5 (got {split})")
        self.name, self.split = name, split
        super().__init__(root, transform, pre_transform, pre_filter)
        self.load_checked(self.processed_paths[0 if train else 1])

    @property
    def _union(self) -> Path:
        return Path(self.raw_dir) / f'rmd17_{self.name}.npz'

    @property
    def raw_file_names(self) -> list[str]:
        if self._union.is_file():
            return [self._union.name]
        return [f'rmd17_{self.name}_{part}_{self.split:02d}.npz' for part in ('train', 'test')]

    @property
    def processed_file_names(self) -> list[str]:
        return [f'rmd17_{self.name}_{part}_{self.split:02d}.pt' for part in ('train', 'test')]

    def download(self) -> None:
        for file in self.raw_file_names:
            download(f'{URL}/{file}', self.raw_dir)

    def process(self) -> None:
        for part, path in zip(('train', 'test'), self.processed_paths, strict=True):
            z, pos, energy, force = self._read(part)
            check_frames(f'{self.name}_{part}_{self.split:02d}', pos, energy, force)
            items = [Data(z=z, pos=p, energy=e.view(1), force=f)
                     for p, e, f in zip(pos, energy, force, strict=True)]
            if self.pre_filter is not None:
                items = [item for item in items if self.pre_filter(item)]
            if self.pre_transform is not None:
                items = [self.pre_transform(item) for item in items]
            self.save(items, path)

    def _read(self, part: str) -> tuple[torch.Tensor, ...]:
        if self._union.is_file():
            with reading(self._union), np.load(self._union) as file:
                rows = file[f'split_{part}_{self.split:02d}']
                arrays = file['z'], file['R'][rows], file['E'][rows], file['F'][rows]
        else:
            path = self.raw_paths[('train', 'test').index(part)]
            with reading(path), np.load(path) as file:
                arrays = file['nuclear_charges'], file['coords'], file['energies'], file['forces']
        z, pos, energy, force = (torch.from_numpy(np.asarray(array)) for array in arrays)
        return z.long().flatten(), pos.float(), energy.double().flatten(), force.float()


def frame_means(pos: torch.Tensor, energy: torch.Tensor, force: torch.Tensor) -> list[float]:
    r"""What identifies a set of frames whatever their order and precision: means of E, E², |F|² and |x|²."""
    centered = energy - energy.mean()
    return [float(x.double().mean()) for x in (energy, centered.square(), force.square(), pos.square())]


def check_frames(key: str, pos: torch.Tensor, energy: torch.Tensor, force: torch.Tensor) -> None:
    r"""Compares frames with the stored means of an official split.

    Raises:
        ValueError: If they differ.
    """
    expected = loads(files('torch_geometric_inertial.datasets').joinpath('rmd17_means.json').read_text())[key]
    found = frame_means(pos, energy, force)
    if len(energy) != 1000 or not np.allclose(found, expected, rtol=1e-5, atol=0):
        raise ValueError(f"the {len(energy)} frames are not those of the official split '{key}': expected means of E, "
                         f"(E - mean)², F² and x² of {expected} (got {found})")
