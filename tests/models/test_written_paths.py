import pytest
import torch

from torch_geometric_inertial import InertialAR, Quetzal
from torch_geometric_inertial.models.written_paths import written_paths


def without_bonds(kind, **fields):
    torch.manual_seed(1)
    return kind(bonds=False, elements=(1, 6, 8), channels=16, heads=2, head_channels=16, head_layers=1, max_atoms=9,
                **fields)


@pytest.mark.parametrize('kind, fields', [(InertialAR, dict(type_layers=1, coord_layers=1)),
                                          (Quetzal, dict(num_layers=2, coord_features=8, head_features=8))])
def test_models_without_bonds_are_written_too(kind, fields):
    model = without_bonds(kind, **fields)
    data, ways = written_paths(model, 0, 3, num_steps=4)
    same = model.generate(1, seed=3, num_steps=4)[0]
    assert torch.equal(data.z, same.z) and torch.allclose(data.pos, same.pos, atol=1e-3)
    assert torch.equal(torch.stack([way[-1] for way in ways]), data.pos) and {len(way) for way in ways} == {5}
    assert model.training


def test_ways_end_in_the_places_of_the_molecule_that_generate_writes():
    model = InertialAR.from_pretrained('qm9')
    same = model.generate(4, seed=0, num_steps=6)[2]
    data, ways = written_paths(model, 2, num_steps=6)
    assert torch.equal(data.z, same.z) and torch.equal(data.edge_index, same.edge_index)
    torch.testing.assert_close(data.pos, same.pos, atol=1e-3, rtol=0)
    assert torch.equal(torch.stack([way[-1] for way in ways]), data.pos)
    assert [len(way) for way in ways] == [1] + [7] * (len(ways) - 1)
    assert min(float((way[0] - way[-1]).norm()) for way in ways[1:]) > 1  # from noise


@pytest.mark.parametrize('arguments, message', [
    (dict(index=-1), r"'index' must be at least 0 \(got -1\)"),
    (dict(num_steps=1), r"'num_steps' must be at least 2 for 'dpmpp' \(got 1\)"),
])
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        written_paths(without_bonds(InertialAR, type_layers=1, coord_layers=1), **arguments)


@pytest.mark.parametrize('where, message', [
    (dict(device='meta'), r"'model' must be on the CPU, where one molecule is written \(got meta\)"),
    (dict(dtype=torch.bfloat16), r'the model must be in torch.float32, torch.float64 \(got torch.bfloat16'),
])
def test_a_model_that_is_elsewhere(where, message):
    with pytest.raises(ValueError, match=message):
        written_paths(without_bonds(InertialAR, type_layers=1, coord_layers=1).to(**where))
