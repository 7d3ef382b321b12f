r"""What `make wheel-check` runs in an environment that has the wheel and what it requires, and nothing else."""
import sys
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path

import torch

import torch_geometric_inertial
from torch_geometric_inertial import InertialAR, PaiNN
from torch_geometric_inertial.cli.doctor import doctor
from torch_geometric_inertial.ops.library import COMPILED


def main() -> None:
    where = Path(torch_geometric_inertial.__file__)
    assert where.is_relative_to(sys.prefix) and 'site-packages' in where.parts, where
    assert 'Tag: cp310-abi3' in (distribution('torch_geometric_inertial').read_text('WHEEL') or '')
    assert not any(find_spec(name) for name in ('rdkit', 'ase', 'matplotlib', 'pyarrow', 'jsonargparse'))
    assert COMPILED
    torch.set_num_threads(1)
    doctor()
    model = InertialAR.from_pretrained('qm9')
    molecules = model.generate(32, seed=0)
    finished = [data for data in molecules if data.finished]
    assert len(finished) >= 30 and all(data.num_edges > 0 for data in finished)
    assert PaiNN.from_pretrained('qm9-homo').predict(finished[:4])[0].isfinite().all()
    print(f'{where.parent} writes molecules and predicts from them')


if __name__ == '__main__':
    main()
