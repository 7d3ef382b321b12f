r"""The loss on molecules held out."""
import pytest
import torch
from helpers.bonded import canonical_molecules, small_network

from torch_geometric_inertial.training import PackedMolecules, ValidationLoss
from torch_geometric_inertial.training.validation import held_out


def test_its_values_can_be_compared():
    network = small_network(dtype=torch.float32).train()
    evaluate = ValidationLoss(PackedMolecules.from_dataset(canonical_molecules(9)), batch_size=4)
    state = torch.get_rng_state()
    once, again = evaluate(network), evaluate(network, 5)
    assert once == again and set(once) == {'val_total', 'val_type', 'val_bond', 'val_coord'}
    assert network.training and torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_it_is_the_mean_over_molecules_of_the_loss():
    network = small_network(dtype=torch.float32)
    molecules = PackedMolecules.from_dataset(canonical_molecules(6))
    halves = [ValidationLoss(molecules.subset(torch.arange(k, k + 3)))(network)['val_bond'] for k in (0, 3)]
    found = ValidationLoss(molecules, batch_size=3)(network)['val_bond']
    assert found == pytest.approx(sum(halves) / 2, rel=1e-5)


def test_augmentation_takes_part():
    molecules, asked = PackedMolecules.from_dataset(canonical_molecules(4)), []

    def augment(data, generator):
        asked.append(generator.initial_seed())
        return data

    ValidationLoss(molecules, augment, batch_size=2)(small_network(dtype=torch.float32))
    assert asked == [0, 0]


@pytest.mark.parametrize('num, fraction, out', [(100, 0.05, 5), (3, 0.05, 0), (10, 0.0, 0), (10, 0.99, 9)])
def test_all_are_on_one_side(num, fraction, out):
    learned, kept = held_out(num, fraction, seed=3)
    assert len(kept) == out and sorted([*learned.tolist(), *kept.tolist()]) == list(range(num))
    assert torch.equal(held_out(num, fraction, seed=3)[1], kept)


@pytest.mark.parametrize('fraction', [-0.1, 1.0, 2])
def test_a_fraction_that_is_none(fraction):
    with pytest.raises(ValueError, match=r"'validation' must be in \[0, 1\) \(got"):
        held_out(10, fraction, 0)
