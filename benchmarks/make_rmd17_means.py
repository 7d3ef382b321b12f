"""Writes the means by which `RevisedMD17` recognises the official splits, from the arrays beside the repository.

    python benchmarks/make_rmd17_means.py
"""
import json
from pathlib import Path

import numpy as np
import torch
from data_folder import DATA

from torch_geometric_inertial.datasets.rmd17 import NAMES, frame_means

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    means = {}
    for name in NAMES:
        with np.load(DATA / 'rmd17' / f'rmd17_{name}.npz') as file:
            for part in ('train', 'test'):
                for split in range(1, 6):
                    rows = file[f'split_{part}_{split:02d}']
                    frames = (torch.from_numpy(file[key][rows]) for key in ('R', 'E', 'F'))
                    means[f'{name}_{part}_{split:02d}'] = frame_means(*frames)
    lines = ',\n'.join(f'{json.dumps(key)}: {json.dumps(value)}' for key, value in means.items())
    (ROOT / 'torch_geometric_inertial' / 'datasets' / 'rmd17_means.json').write_text(f'{{\n{lines}\n}}\n')


if __name__ == '__main__':
    main()
