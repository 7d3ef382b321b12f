r"""Prediction of many molecules, in whatever form they come."""
import pytest
import torch
from helpers.predictors import close, cloud, run, small
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

from torch_geometric_inertial.models.molecule_batches import batches

SIZES = (4, 1, 7, 3, 5)


class Packed:
    """Molecules by their indices, as training sets are."""
    def __init__(self, molecules):
        self.molecules = molecules

    def __len__(self):
        return len(self.molecules)

    def batch(self, index):
        return Batch.from_data_list([self.molecules[i] for i in index.tolist()])


@pytest.fixture(scope='module')
def molecules():
    return [Data(z=m.z, pos=m.pos) for m in (cloud(n, n) for n in SIZES)]


FORMS = {
    'list': lambda m: m, 'generator': lambda m: (x for x in m), 'one batch': Batch.from_data_list,
    'loader': lambda m: DataLoader(m, batch_size=2), 'packed': Packed,
    'batches and molecules': lambda m: [m[0], Batch.from_data_list(m[1:3]), *m[3:]],
    'data with batch alone': lambda m: Data(**{k: Batch.from_data_list(m)[k] for k in ('z', 'pos', 'batch')}),
    'data with ptr alone': lambda m: Data(**{k: Batch.from_data_list(m)[k] for k in ('z', 'pos', 'ptr')}),
}


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('head', ['direct', 'conservative'])
def test_every_form_gives_what_each_molecule_gives(molecules, form, head):
    model = small(vector_head=head).train()
    alone = [run(model.eval(), m) for m in molecules]
    found = model.train().predict(FORMS[form](molecules), batch_size=2)
    close(found.scalars, torch.cat([e for e, _ in alone]))
    close(found.vectors, torch.cat([f for _, f in alone]))
    assert model.training and not found.scalars.requires_grad and not found.vectors.requires_grad
    assert found.stress is None


def test_the_batch_size_is_kept(molecules, monkeypatch):
    sizes = [int(batch.batch[-1]) + 1 for batch in batches(molecules, 2)]
    assert sizes == [2, 2, 1]


def test_one_molecule_and_none():
    model, data = small(), cloud(5, 1)
    found = model.predict(Data(z=data.z, pos=data.pos))
    close(found.scalars, run(model, data)[0])
    nothing = small(num_scalars=2).predict([])
    assert nothing.scalars.shape == (0, 2) and nothing.vectors.shape == (0, 3)
    assert small(scalar_head='none').predict([]).scalars is None
    assert small().predict([], vectors=False).vectors is None


def test_what_is_not_asked_for_is_not_given(molecules):
    found = small(vector_head='conservative').predict(molecules, vectors=False)
    assert found.vectors is None and found.scalars.shape == (5, )


def test_numbers_take_the_type_of_the_weights(molecules):
    model = small(dtype=torch.float32)
    found = model.predict(molecules)  # these are float64
    close(found.vectors.double(), small().predict(molecules).vectors, 1e-4)


def test_what_the_model_reads_is_passed_on(molecules):
    model = small(velocity='merged', charges=(0, 1), spins=(1, 2), num_tags=3)
    given = [Data(z=m.z, pos=m.pos, vel=m.pos.cos(), charge=i % 2, spin=torch.tensor([1 + i % 2]),
                  tags=torch.arange(m.z.numel()) % 3, name=f'molecule {i}') for i, m in enumerate(molecules)]
    found = model.predict(given, batch_size=3)
    for i, m in enumerate(given):
        scalar, vectors = model(m.z, m.pos, vel=m.vel, charge=torch.tensor([i % 2]), spin=m.spin, tags=m.tags)
        close(found.scalars[i:i + 1], scalar)
        close(found.vectors[sum(SIZES[:i]):sum(SIZES[:i + 1])], vectors)
    others = small().predict(given)  # reads none of these
    close(others.scalars, small().predict(molecules).scalars)


def test_crystals_and_molecules_with_stress(molecules):
    model = small(cutoff=3.0, equivariant_init='neighbors', vector_head='conservative')
    cell, pbc = 6 * torch.eye(3, dtype=torch.float64), torch.tensor([True, True, True])
    crystal = Data(z=molecules[0].z, pos=molecules[0].pos, cell=cell, pbc=pbc)
    found = model.predict([molecules[2], crystal, molecules[3]], batch_size=2, stress=True)
    energy, forces, stress = model.stress(crystal.z, crystal.pos, cell=cell, pbc=pbc)
    close(found.scalars[1:2], energy)
    close(found.vectors[7:11], forces)
    close(found.stress[1:2], stress)
    assert not found.stress[[0, 2]].any() and found.stress[1].abs().max() > 1e-4
    strung = Batch.from_data_list([crystal, crystal])
    assert strung.cell.shape == (6, 3)
    close(model.predict(strung, stress=True).stress, stress.expand(2, 3, 3))


def test_an_error_leaves_the_mode_as_it_was(molecules):
    model = small().train()
    with pytest.raises(ValueError, match="'z' must hold elements"):
        model.predict([Data(z=torch.tensor([92]), pos=torch.zeros(1, 3))])
    assert model.training


@pytest.mark.parametrize('data, kwargs, message', [
    ([], dict(batch_size=0), r"'batch_size' must be at least 1 \(got 0\)"),
    ([Data(z=torch.tensor([6]), pos=torch.zeros(1, 3)), Data(pos=torch.zeros(1, 3))], {},
     r"item 1 of 'data' must be a Data with 'z' and 'pos' \(got Data\(pos=\[1, 3\]\)\)"),
    (['CCO'], {}, r"item 0 of 'data' must be a Data with 'z' and 'pos' \(got 'CCO'\)"),
    (3, {}, r"'data' must be a Data or several \(got int\); chem.as_data makes one"),
    ([Data(z=torch.tensor([]).long(), pos=torch.zeros(0, 3))], {}, r"item 0 of 'data' must have at least one atom"),
    ([Data(z=torch.tensor([6.0]), pos=torch.zeros(1, 3))], {}, r"'z' must be integers \[1\] \(got \[1\], torch.fl"),
], ids=range(6))
def test_bad_data(data, kwargs, message):
    with pytest.raises(ValueError, match=message):
        small().predict(data, **kwargs)
