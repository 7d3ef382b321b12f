r"""A generator that learns of other atoms and longer molecules."""
import math

import pytest
import torch
from helpers.generators import small_model
from torch_geometric.data import Batch

from torch_geometric_inertial import InertialAR, from_smiles
from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.models.widen import RARER, widened
from torch_geometric_inertial.nn.atom_vocabulary import atom_types_of
from torch_geometric_inertial.transforms import canonical

pytest.importorskip('rdkit')


@pytest.fixture(scope='module')
def model():
    return InertialAR.from_pretrained('qm9')


def test_what_was_known_is_as_likely_as_before_but_for_the_new_types(model):
    new = [(9, 0, 0, 1), (16, 0, 0, 2), (16, 0, 1, 2)]
    wide = widened(model, new, max_atoms=50)
    assert wide.config.max_atoms == 50 and wide.elements == (1, 6, 7, 8, 9, 16) and model.config.max_atoms == 30
    batch = Batch.from_data_list([data for data in QM9Sample()[:40] if 9 not in data.z][:6])
    before, after = (one.log_prob(batch, num_steps=2) for one in (model, wide))
    torch.testing.assert_close(after.coord, before.coord)
    torch.testing.assert_close(after.bond, before.bond)
    lost = (before.total - after.total) / torch.tensor([float((data.z > 1).sum() + 1) for data in batch.to_data_list()])
    assert bool((lost > 0).all()) and bool((lost < math.log(1 + len(new) * math.exp(-RARER))).all())


def test_nothing_new_changes_nothing(model):
    same = widened(model, model.config.atom_types, 10)
    assert same.config == model.config and same is not model and not same.training
    for (name, a), b in zip(model.state_dict().items(), same.state_dict().values(), strict=True):
        assert torch.equal(a, b) and (a.numel() == 0 or a.data_ptr() != b.data_ptr()), name


def test_the_new_can_be_learned(model):
    data = from_smiles('FC(F)(F)CCCCCCCCCS')  # 33 atoms
    wide = widened(model, atom_types_of(data), data.z.numel()).train()
    batch = canonical()(Batch.from_data_list([data]))
    for narrow, message in ((widened(model, max_atoms=40), 'the model does not know F with 0 hydrogens'),
                            (widened(model, atom_types_of(data)), "'max_atoms' is 30")):
        with pytest.raises(ValueError, match=message):
            narrow(batch)
    loss = wide(batch, torch.Generator().manual_seed(0))
    loss.total.backward()
    new = len(model.config.atom_types)
    assert bool(loss.total.isfinite())
    assert bool((wide.network.graph.type_embedding.weight.grad[new:].norm(dim=1) > 0).all())


def test_a_new_type_begins_as_the_one_most_like_it(model):
    wide = widened(model, [(16, 0, 1, 2)])
    rows = wide.network.placer.type_embedding.weight
    assert torch.equal(rows[-1], rows[model.config.atom_types.index((8, 0, 1, 2))])


def test_a_model_without_bonds_is_refused():
    with pytest.raises(ValueError, match="'model' must write bonds to learn of other atoms or longer molecules"):
        widened(small_model(), max_atoms=99)
