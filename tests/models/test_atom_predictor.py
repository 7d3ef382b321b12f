r"""What all predictors share: references, charges and spins, prediction of many molecules, files."""
import pytest
import torch
from helpers.predictors import batch_of, close, cloud, run, small
from torch_geometric.data import Data

from torch_geometric_inertial import GeoMFormer, PaiNN, TorchMDNet


@pytest.mark.parametrize('velocity', ['none', 'paired'])
def test_charges_and_spins_of_molecules(velocity):
    """Each molecule has its own; which index a charge has is nobody's matter."""
    fields = dict(charges=(-1, 0, 2), spins=(1, 3), velocity=velocity)
    model, data = small(**fields), batch_of(cloud(4, 1), cloud(4, 1), cloud(4, 1), cloud(3, 2))
    vel = None if velocity == 'none' else data.pos.cos()
    if vel is not None:
        vel[4:8] = vel[8:12] = vel[:4]
    totals = dict(charge=torch.tensor([0, 2, 2, -1]), spin=torch.tensor([1, 3, 1, 3]))
    energy, vectors = run(model, data, vel=vel, **totals)
    assert torch.cdist(energy[:3, None], energy[:3, None]).add(torch.eye(3)).min() > 1e-4
    assert (vectors[:4] - vectors[4:8]).abs().max() > 1e-4
    for k, part in enumerate((slice(0, 4), slice(4, 8), slice(8, 12), slice(12, 15))):
        alone = model(data.z[part], data.pos[part], vel=None if vel is None else vel[part],
                      **{name: value[k:k + 1] for name, value in totals.items()})
        close(alone[0], energy[k:k + 1])
        close(alone[1], vectors[part])
    count = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in small(velocity=velocity).parameters())
    assert count == 5 * model.config.channels


@pytest.mark.parametrize('fields', [dict(), dict(vector_head='conservative', cutoff=3.0)])
def test_a_saved_model_predicts_the_same(fields, tmp_path):
    model, data = small(dtype=torch.float32, **fields), cloud(6, 1, torch.float32)
    model.fit_references(data.z, torch.zeros(6, dtype=torch.long), torch.tensor([-1234.5]))
    again = GeoMFormer.from_pretrained(model.save_pretrained(tmp_path, unit='kcal/mol'))
    for a, b in zip(run(model, data), run(again, data), strict=True):
        assert torch.equal(a, b)


def test_references_carry_the_large_part_of_energies():
    g = torch.Generator().manual_seed(0)
    molecules = [cloud(int(n), k, torch.float32) for k, n in enumerate(torch.randint(2, 9, (40, ), generator=g))]
    batch = batch_of(*molecules)
    reference = {1: -300.5, 6: -24000.25, 7: -34000.5, 8: -47000.75}
    noise = torch.randn(40, generator=g, dtype=torch.float64)
    totals = torch.stack([torch.tensor([reference[int(k)] for k in m.z], dtype=torch.float64).sum()
                          for m in molecules]) + 0.5 * noise
    model = small(dtype=torch.float32).fit_references(batch.z, batch.batch, totals)
    energy = run(model, batch)[0]
    assert energy.dtype == torch.float64  # float32 holds such numbers to 0.01
    assert (energy - totals).abs().mean() < 30 and 0.05 < float(model.scale) < 1
    one = small(dtype=torch.float32).fit_references(molecules[0].z, batch.batch[batch.batch == 0], totals[:1])
    assert float(one.scale) == 1
    mean = small(dtype=torch.float32, scalar_head='mean').fit_references(batch.z, batch.batch, noise + 7)
    assert float((mean.reference - (noise + 7).mean()).abs().max()) < 1e-6
    assert float(mean.scale) == pytest.approx(float(noise.std()), rel=1e-5)


@pytest.mark.parametrize('kind', [GeoMFormer, PaiNN, TorchMDNet])
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_short_types_are_refused(kind, dtype):
    model = kind(channels=16, num_layers=1, vector_head='conservative').to(dtype)
    with pytest.raises(ValueError, match=rf'the model must be in torch.float32 or torch.float64 \(got {dtype}\)'):
        model.predict([Data(z=torch.tensor([8, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0]]))])
