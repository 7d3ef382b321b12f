r"""Copies of training molecules."""
import math

import pytest
import torch
from helpers.embedded import embedded, moved, relabeled
from torch_geometric.data import Data

from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.metrics import memorization
from torch_geometric_inertial.metrics.memorization import copy_rmsd

pytest.importorskip('rdkit')


def shuffled(data, seed):
    generator = torch.Generator().manual_seed(seed)
    return moved(relabeled(data, torch.randperm(data.z.numel(), generator=generator)), generator)


@pytest.mark.parametrize('smiles', ['C', 'CC(C)(C)C', 'CCCCCC', 'c1ccccc1', 'C1CC1', 'O', 'C#C', 'OC(F)(F)C'])
def test_a_copy_is_found_in_any_pose_and_order(smiles):
    data = embedded(smiles)
    assert copy_rmsd(shuffled(data, 3), data) < 1e-5
    noisy = shuffled(data, 4)
    noisy.pos = noisy.pos + 0.03 * torch.randn(noisy.pos.shape, generator=torch.Generator().manual_seed(0)).double()
    assert 0.005 < copy_rmsd(noisy, data, 0.1) < 0.1


def test_mirror_images_and_other_conformers_are_no_copies():
    chiral = embedded('C[C@H](F)O')
    mirrored = chiral.clone()
    mirrored.pos = chiral.pos * torch.tensor([-1.0, 1, 1])
    assert copy_rmsd(mirrored, chiral) > 0.3 and copy_rmsd(mirrored, chiral, 0.1) > 0.1
    assert copy_rmsd(embedded('CO'), embedded('CN')) == math.inf


def test_shares_of_a_set():
    training = [data.clone() for data in QM9Sample()[::100]]
    for data in training:
        data.formal_charge = torch.zeros_like(data.z)
    new = embedded('CCCCCCCCC')
    generated = [shuffled(training[40], 1), None, new, shuffled(training[60], 2)]
    generated[3].pos = generated[3].pos + 0.12 * torch.randn(generated[3].pos.shape,
                                                            generator=torch.Generator().manual_seed(1))
    found = memorization(generated, training, protocol='bonds')
    assert found.nearest[:3] == (40, None, None) and found.rmsd[0] < 1e-3 and found.rmsd[1] == math.inf
    assert (found.known.count, found.copied.count, found.copied.total) == (2, 1, 3)
    assert 'copied in 3D' in str(found) and found.protocol == 'bonds v1'


def test_without_bonds_the_tables_of_edm_count():
    water = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
    found = memorization([water], [water])
    assert found.copied.value == found.known.value == 1 and found.protocol == 'edm-qm9 v2'


def test_errors():
    with pytest.raises(ValueError, match=r"'threshold' must be positive \(got 0\)"):
        memorization([], [], 0)
