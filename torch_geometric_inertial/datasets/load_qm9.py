r"""QM9 by the parts of the EDM split, whichever copy of it there is."""
from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import torch
from torch_geometric.data import InMemoryDataset
from torch_geometric.datasets import QM9

from torch_geometric_inertial.datasets.qm9_sample import QM9Sample
from torch_geometric_inertial.datasets.qm9_split import SPLITS, gdb_ids, qm9_split
from torch_geometric_inertial.files import DAMAGE, reading

HELD_OUT = 500  #: Molecules of the embedded sample for validation, and as many for test.


def load_qm9(split: str = 'train', root: str | Path | None = None) -> InMemoryDataset:
    r"""The molecules of a part of QM9.

    With :obj:`root` they are those of :class:`torch_geometric.datasets.QM9` there (read if it was made before or its
    raw files are there, downloaded otherwise), split as EDM does, see :func:`qm9_split`. Without, they are of
    :class:`QM9Sample`, 9,000, 500 and 500, drawn with a fixed seed: nothing is downloaded.

    Args:
        split (str): :obj:`'train'`, :obj:`'valid'` or :obj:`'test'`. (default: :obj:`'train'`)
        root (str or Path, optional): Folder of PyG's data set; the embedded sample if left out.

    Raises:
        ValueError: If there is no such split, or a file in :obj:`root` is damaged.
    """
    if split not in SPLITS:
        raise ValueError(f"'split' must be one of {', '.join(SPLITS)} (got '{split}')")
    if root is None:
        dataset: InMemoryDataset = QM9Sample()
        order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))
        parts = dict(valid=order[:HELD_OUT], test=order[HELD_OUT:2 * HELD_OUT], train=order[2 * HELD_OUT:])
        return dataset[parts[split].sort().values]
    dataset = _read(Path(root))
    return dataset[qm9_split(gdb_ids(dataset.name), split).nonzero().flatten()]


def _read(root: Path) -> QM9:
    for path in sorted(root.glob('raw/gdb9.sdf*')) + sorted(root.glob('processed/data*.pt')):
        if path.is_file():
            with reading(path):  # empty, or a web page
                pass
    try:
        return QM9(str(root))
    except DAMAGE as error:
        stored = [str(path) for folder in ('processed', 'raw') for path in sorted(root.glob(f'{folder}/*'))]
        if not stored or isinstance(error, URLError | ConnectionError | TimeoutError):
            raise OSError(f"QM9 cannot be downloaded to '{root}' ({error}): try again with a network, or leave 'root' "
                          'out for the embedded sample of 10,000 molecules') from error
        raise ValueError(f"QM9 in '{root}' cannot be read ({error or type(error).__name__}): delete its folder "
                         "'processed', and if that does not help 'raw', to make it again") from error
