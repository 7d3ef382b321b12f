"""From a column of real QM9 to molecules with a wanted value, by public names alone."""
import numpy as np
import pytest
import torch
from torch_geometric.data import Batch, Data

from torch_geometric_inertial import InertialAR
from torch_geometric_inertial.training import FitConfig, PackedMolecules, RandomPose, fit
from torch_geometric_inertial.transforms import canonical

NUM = 48


@pytest.fixture(scope='module')
def molecules(shared_data):
    """Molecules in canonical frame and order, with HOMO and gap in Hartree; not all gaps are known."""
    with np.load(shared_data / 'qm9' / 'qm9_geom.npz') as file:
        z, pos, ptr, gdb_id, u, v, k, bond_ptr = (file[name] for name in (
            'z', 'pos_1e5', 'ptr', 'gdb_id', 'bond_u', 'bond_v', 'bond_order', 'bond_ptr'))
        start, items = 5000, []
        for i in range(start, start + NUM):
            atoms, bonds = slice(ptr[i], ptr[i + 1]), slice(bond_ptr[i], bond_ptr[i + 1])
            one_way = torch.from_numpy(np.stack([u[bonds], v[bonds]]).astype(np.int64))
            items.append(Data(z=torch.from_numpy(z[atoms].astype(np.int64)),
                              pos=torch.from_numpy(pos[atoms] * 1e-5).float(),
                              edge_index=torch.cat([one_way, one_way.flip(0)], dim=1),
                              edge_attr=torch.from_numpy(k[bonds].astype(np.int64)).repeat(2)))
        rows = gdb_id[start:start + NUM] - 1
    with np.load(shared_data / 'qm9' / 'qm9_targets.npz') as file:
        columns = [str(name) for name in file['columns']]
        targets = torch.from_numpy(file['T'][rows][:, [columns.index('homo'), columns.index('gap')]])
    targets[0, 1] = torch.nan
    for data, row in zip(items, targets, strict=True):
        data.properties = row.unsqueeze(0)
    batch = canonical()(Batch.from_data_list(items))
    return PackedMolecules.from_dataset(batch.to_data_list())


def test_a_column_of_qm9_is_learnt_kept_and_asked_for(molecules, tmp_path):
    homo = molecules.properties[:, 0]
    assert -0.4 < homo.min() < homo.max() < -0.1  # Hartree
    torch.manual_seed(0)
    model = InertialAR(channels=32, heads=2, graph_layers=1, place_layers=1, head_channels=24, head_layers=2,
                       properties=('homo', 'gap'))
    model.fit_properties(molecules.properties)
    before = model.condition.values.detach().clone()
    model = fit(model, molecules, tmp_path / 'checkpoints', FitConfig(num_steps=4, batch_size=8, warmup_steps=1),
                augment=RandomPose(30.0, 0.5))
    assert not torch.equal(model.condition.values, before)
    model.save_pretrained(tmp_path / 'model')
    again = InertialAR.from_pretrained(tmp_path / 'model')
    assert again.condition.property_low[0] == homo.min().float()
    assert again.condition.property_high[0] == homo.max().float()

    few = dict(num_steps=2, max_atoms=6)
    asked = again.generate(4, properties={'homo': torch.linspace(float(homo.min()), float(homo.max()), 4)}, **few)
    free = again.generate(4, **few)
    assert all(a.pos.isfinite().all() for a in asked)
    assert any(a.pos.shape != b.pos.shape or not torch.allclose(a.pos, b.pos) for a, b in zip(asked, free, strict=True))
    with pytest.warns(UserWarning, match='homo = 6.5 is outside the training range, -0'):  # eV
        again.generate(1, properties={'homo': 6.5}, guidance_scale=2.0, **few)
