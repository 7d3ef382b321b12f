r"""A generator that learns from 9,000 molecules for a minute, on one thread.

    python examples/02_train.py
"""
import sys

from torch_geometric.data import Batch

from torch_geometric_inertial import InertialAR, InertialARConfig
from torch_geometric_inertial.datasets import load_qm9
from torch_geometric_inertial.metrics import evaluate
from torch_geometric_inertial.nn import atom_types_of
from torch_geometric_inertial.training import FitConfig, PackedMolecules, RandomPose, fit
from torch_geometric_inertial.transforms import canonical


def main(minutes: float = 1.0) -> None:
    batch = canonical('heavy_first')(Batch.from_data_list(list(load_qm9('train'))))
    model = InertialAR(InertialARConfig.preset('tiny', atom_types=atom_types_of(batch)))
    print(model)
    config = FitConfig(num_steps=1_000_000, max_minutes=minutes, batch_size=64)
    molecules = PackedMolecules.from_dataset(batch.to_data_list())
    model = fit(model, molecules, 'outputs/02_train/training', config, augment=RandomPose(180.0), progress=True)
    model.save_pretrained('outputs/02_train/model')
    print(evaluate(model.generate(64, seed=0), 'edm-qm9'))


if __name__ == '__main__':
    main(*map(float, sys.argv[1:]))
