r"""Tags: what an atom is part of, which its features and its share of the energy depend on."""
import pytest
import torch
from helpers.predictors import close, cloud, small

from torch_geometric_inertial import GeoMFormer

TAGS = torch.tensor([0, 0, 1, 1, 2, 2, 0])
CELL = torch.tensor([[7.0, 0.3, 0.0], [-0.5, 8.0, 0.2], [0.0, 0.4, 9.0]], dtype=torch.float64)
SLAB = torch.tensor([True, True, False])
PERIODIC = dict(cutoff=3.2, equivariant_init='neighbors')


def tagged(**fields):
    return small(**dict(num_tags=3, vector_head='position') | fields)


def run(model, data, tags=TAGS, **kwargs):
    return model(data.z, data.pos, tags=tags, **kwargs)


def test_the_energy_is_that_of_tagged_atoms_each_with_its_factor():
    model, data = tagged(), cloud(7)
    model.offset.fill_(-1.5)
    model.reference.fill_(0.25)
    with torch.no_grad():
        base, parts = -1.5 + 7 * 0.25, []
        for factor in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (2.0, -3.0)):
            model.tag_factor.copy_(torch.tensor(factor))
            parts.append(float(run(model, data)[0]) - base)
        nothing, surface, adsorbate, both = parts
        assert nothing == pytest.approx(0, abs=1e-12) and min(abs(surface), abs(adsorbate)) > 1e-3
        assert both == pytest.approx(2 * surface - 3 * adsorbate, rel=1e-9)
        assert float(run(model, data, torch.zeros(7, dtype=torch.long))[0]) == pytest.approx(base)  # none is tagged


def test_tags_change_what_the_other_atoms_see():
    model, data = tagged(), cloud(7)
    other = TAGS.clone()
    other[1] = 2
    with torch.no_grad():
        a, b = run(model, data)[1], run(model, data, other)[1]
    moved = (a - b).abs().amax(1)
    assert float(moved[1]) > 1e-4 and float(moved[[0, *range(2, 7)]].max()) > 1e-6


@pytest.mark.parametrize('fields', [dict(), PERIODIC, dict(PERIODIC, periodic='ghost'), dict(PERIODIC, dense_size=0)])
def test_order_and_company_do_not_matter(fields):
    model, a, b = tagged(**fields), cloud(7, 1), cloud(5, 2)
    lattice = dict(cell=CELL, pbc=SLAB) if fields else {}
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    energy, pos = run(model, a, **lattice)
    energies, both = model(torch.cat([b.z, a.z[order]]), torch.cat([b.pos, a.pos[order]]),
                           torch.tensor([0] * 5 + [1] * 7), tags=torch.cat([TAGS[:5], TAGS[order]]), **lattice)
    close(energies[1:], energy)
    close(both[5:], pos[order])


def test_models_without_an_energy_have_no_factors(tmp_path):
    model = tagged(scalar_head='none')
    assert model.tag_factor is None and run(model, cloud(7))[0] is None


def test_a_saved_model_keeps_tags(tmp_path):
    model, data = tagged(dtype=torch.float32), cloud(7, dtype=torch.float32)
    model.offset.fill_(3.25)
    again = GeoMFormer.from_pretrained(model.save_pretrained(tmp_path))
    for x, y in zip(run(model, data), run(again, data), strict=True):
        assert torch.equal(x, y)
