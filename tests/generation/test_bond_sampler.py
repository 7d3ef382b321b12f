"""Molecules with bonds: what they are a function of, and that they are written as the plain loop writes them."""
from unittest.mock import patch

import pytest
import torch
from helpers.bonded import canonical_molecules, small_network
from hypothesis import given, settings
from hypothesis import strategies as st

from torch_geometric_inertial.generation import GenerationRequest, SamplingConfig, graph_stepper, write_molecules
from torch_geometric_inertial.generation.plain import write_plainly
from torch_geometric_inertial.models import bonded_tokenization

FAST = SamplingConfig(num_steps=3)


def write(network, num, sampling=FAST, seed=0, max_atoms=30, conditions=None, **kwargs):
    requests = [GenerationRequest(i, max_atoms, conditions) for i in range(num)]
    return list(write_molecules(network, requests, sampling, seed=seed, **kwargs))


def same(a, b, atol=1e-6):
    for x, y in zip(a, b, strict=True):
        for name in ('z', 'edge_index', 'edge_attr', 'formal_charge'):
            assert torch.equal(x[name], y[name]), name
        assert x.finished == y.finished
        # each place of random weights amplifies the rounding of those before it
        torch.testing.assert_close(x.pos[:10], y.pos[:10], atol=atol, rtol=0)


@pytest.mark.parametrize('sampling', [
    FAST, SamplingConfig(num_steps=3, temperature=0.7, top_p=0.9, place_temperature=0.5),
    SamplingConfig(num_steps=3, temperature=0.0, place_temperature=0.0)], ids=['plain', 'cooled', 'greedy'])
def test_it_writes_what_the_plain_loop_writes(sampling):
    """Cached and in batches, and uncached, one by one."""
    network = small_network()
    written = write(network, 12, sampling, seed=2, batch_size=5)
    same(written, [write_plainly(network, i, 2, sampling=sampling) for i in range(12)])
    if sampling.temperature > 0:
        assert len({m.num_nodes for m in written}) > 3
        assert max(int((m.edge_attr > 1).sum()) for m in written) > 0


def test_conditions_reach_the_plain_loop_as_well():
    network = small_network(num_groups=3)
    groups = torch.tensor([1., 0., 1.], dtype=torch.float64)
    written = write(network, 6, conditions=dict(groups=groups))
    same(written, [write_plainly(network, i, sampling=FAST, conditions=dict(groups=groups.unsqueeze(0)))
                   for i in range(6)])
    with pytest.raises(AssertionError):
        same(written, write(network, 6))


@pytest.mark.parametrize('batch_size', [1, 3, 50])
def test_a_molecule_is_a_function_of_seed_and_number_alone(batch_size):
    network = small_network()
    all_at_once = write(network, 9, seed=3)
    same(write(network, 9, seed=3, batch_size=batch_size), all_at_once)
    same(write(network, 4, seed=3), all_at_once[:4])
    with pytest.raises(AssertionError):
        same(write(network, 9, seed=4), all_at_once)


@given(seed=st.integers(0, 2**40), max_atoms=st.integers(1, 12), mask=st.booleans())
@settings(max_examples=20)
def test_molecules_are_whole_or_say_that_they_are_not(seed, max_atoms, mask):
    """Each is one connected graph, symmetric, of known types; hydrogens have one bond."""
    network = NETWORK
    for molecule in write(network, 4, SamplingConfig(num_steps=2, valence_mask=mask), seed, max_atoms):
        n = molecule.num_nodes
        assert 1 <= n <= max_atoms and molecule.pos.isfinite().all()
        u, v = molecule.edge_index
        dense = torch.zeros(n, n, dtype=torch.long)
        dense[u, v] = molecule.edge_attr
        assert torch.equal(dense, dense.T) and not dense.diagonal().any()
        reach = torch.matrix_power((dense > 0).double() + torch.eye(n), n) > 0
        assert reach.all()
        hydrogen = molecule.z == 1
        assert (dense[hydrogen].sum(1) == 1).all() and not dense[hydrogen][:, hydrogen].any()
        assert not hydrogen[:int((~hydrogen).sum())].any()  # heavy atoms first


NETWORK = small_network()


def test_the_valence_mask_leaves_no_valence_open_and_none_overdrawn():
    """Of molecules that the model ends; without it a model of random weights does neither."""
    network = small_network(1)

    def right(molecule):
        used = torch.zeros(molecule.num_nodes, dtype=torch.long).index_add(
            0, molecule.edge_index[0], molecule.edge_attr)
        usual = {(1, 0): 1, (6, 0): 4, (7, 0): 3, (8, 0): 2, (7, 1): 4, (8, -1): 1, (7, -1): 2, (6, -1): 3}
        pairs = zip(molecule.z.tolist(), molecule.formal_charge.tolist(), strict=True)
        return used.tolist() == [usual[pair] for pair in pairs]

    masked = [m for m in write(network, 60, SamplingConfig(num_steps=2, valence_mask=True)) if m.finished]
    free = [m for m in write(network, 60) if m.finished]
    assert len(masked) > 5 and all(right(m) for m in masked)
    assert sum(right(m) for m in free) < 0.5 * len(free)


def test_memory_grows_with_the_molecules():
    expected = write(NETWORK, 8)
    with patch.object(graph_stepper, 'FIRST_SLOTS', 1):
        same(write(NETWORK, 8, batch_size=3), expected)


def test_guidance_of_0_is_unconditional_and_1_conditional():
    network = small_network(num_groups=3)
    conditions = dict(groups=torch.tensor([1., 0., 1.], dtype=torch.float64))

    def written(scale, **kwargs):
        return write(network, 6, SamplingConfig(num_steps=3, guidance_scale=scale), conditions=conditions, **kwargs)
    conditional, free = written(1.0), write(network, 6)
    same(written(0.0), free)
    same(written(1 + 1e-9), conditional, atol=1e-4)
    same(written(1e-9), free, atol=1e-4)
    beyond = written(3.0)
    same(written(3.0, batch_size=2), beyond)
    with pytest.raises(AssertionError):
        same(beyond, conditional)


def test_what_is_written_can_be_read(dtype=torch.float64):
    """The graphs and places of the sampler are sequences that the likelihood reads, of finite density."""
    network = small_network()
    written = [m for m in write(network, 40, SamplingConfig(num_steps=3, valence_mask=True)) if m.finished]
    assert len(written) > 5
    for molecule in written:
        with patch.object(bonded_tokenization, 'LONGEST_BOND', 1e9):
            skeleton, pos = network.read(molecule)
        assert int(skeleton.length) == molecule.num_nodes
        log_prob = network.graph.log_prob(skeleton.graph, network.graph_condition(None, 1))
        assert log_prob.type.isfinite().all() and log_prob.bond.isfinite().all()
        torch.testing.assert_close(pos[0], molecule.pos.to(dtype))


def test_mode_and_global_random_state_do_not_change():
    network, state = small_network(), torch.get_rng_state()
    for training in (True, False):
        network.train(training)
        write(network, 2)
        assert network.training is training
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match=r"'batch_size' must be at least 1 \(got 0\)"):
        write(network, 1, batch_size=0)


def test_real_molecules_are_in_the_vocabulary():
    for data in canonical_molecules(20):
        skeleton, _ = NETWORK.read(data)
        assert int(skeleton.graph.size) == int((data.z > 1).sum())
