"""Molecules around given atoms: these stay where they are, and what follows them is what the model would write."""
from unittest.mock import patch

import pytest
import torch
from helpers.generators import FAST, VARIANTS, rows_through, same, spread_out
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data

from torch_geometric_inertial import CanonicalOrder
from torch_geometric_inertial.generation import GenerationRequest, SamplingConfig, Scaffold, generate_molecules, poses
from torch_geometric_inertial.generation import scaffold as scaffold_module
from torch_geometric_inertial.generation.poses import Poses
from torch_geometric_inertial.models import Quetzal, QuetzalConfig, generator_input

CARBON = torch.tensor([6, 6])
PLACES = torch.tensor([[0., 0, 0], [1.5, 0, 0]])


def as_it_is(scaffold, generator):
    """The only candidate: the pose and order in which the scaffold is given."""
    perm, turn = torch.arange(scaffold.pos.size(0)), torch.eye(3).double()
    return Poses(perm.unsqueeze(0), turn.unsqueeze(0), scaffold.pos.mean(0, keepdim=True))


@pytest.mark.parametrize('variant', VARIANTS[:4], ids=str)
def test_what_follows_a_beginning_is_what_followed_when_it_was_written(make_model, variant):
    """A prefix read at once leaves the caches as writing it atom by atom does: the same numbers, the same molecule."""
    model, sizes = make_model(order='heavy_first', elements=(6, 7, 8), **variant), []
    for seed in range(9):
        (whole, ) = model.generate(1, seed=seed, **FAST)
        sizes.append(whole.num_nodes)
        for size in {1, whole.num_nodes // 2, whole.num_nodes - 1} - {0}:
            start = Data(z=whole.z[:size], pos=whole.pos[:size])
            with (patch.object(poses, 'propose_poses', as_it_is), patch.object(scaffold_module, 'check_apart'),
                  patch.object(model.network, 'prefix_log_prob', lambda *_: torch.zeros(1)),
                  patch.object(generator_input, 'NUM_POSES', 1)):
                again, rows = rows_through(model, lambda start=start, seed=seed: model.complete(
                    start, 1, seed=seed, **FAST))
            same(again, [whole], atol=1e-2)
            assert rows['place'] == whole.num_nodes - size
    assert max(sizes) > 2


@pytest.mark.parametrize('order', ['smiles', 'heavy_first'])
@settings(max_examples=15)
@given(seed=st.integers(0, 2**30), size=st.integers(1, 8), hydrogens=st.booleans(),
       dtype=st.sampled_from([torch.float32, torch.float64]))
def test_completed_molecules_contain_the_scaffold_unmoved(make_model, order, seed, size, hydrogens, dtype):
    model, generator = make_model(order=order), torch.Generator().manual_seed(seed)
    scaffold = spread_out(generator, size, [1, 6, 8] if hydrogens else [6, 7])
    scaffold.pos = scaffold.pos.to(dtype) + 30
    before = scaffold.clone()
    written = model.complete(scaffold, 3, seed=seed, num_steps=2, max_atoms=10)
    assert torch.equal(scaffold.pos, before.pos) and torch.equal(scaffold.z, before.z)
    for molecule in written:
        assert molecule.z[:size].tolist() == scaffold.z.tolist()
        assert torch.equal(molecule.pos[:size], scaffold.pos) and molecule.pos.dtype == dtype
        assert molecule.fixed.tolist() == [i < size for i in range(molecule.num_nodes)]
        assert size <= molecule.num_nodes <= 10 and molecule.pos.isfinite().all()
        assert molecule.finished or molecule.num_nodes == 10
        distance = torch.cdist(molecule.pos, molecule.pos.new_full((1, 3), 30.0))
        assert distance.max() < 40  # around the scaffold, not around the origin


def test_completion_is_a_function_of_seed_and_number(make_model):
    model = make_model(order='heavy_first')
    scaffold = spread_out(torch.Generator().manual_seed(0), 5, [6, 7, 1])
    all_at_once = model.complete(scaffold, 6, seed=5, **FAST)
    same(model.complete(scaffold, 6, seed=5, batch_size=4, **FAST), all_at_once)
    same(model.complete(scaffold, 2, seed=5, **FAST), all_at_once[:2])
    assert len({tuple(m.z.tolist()) for m in all_at_once}) > 1
    full = model.complete(scaffold, 3, num_steps=2, max_atoms=5)
    assert all(m.num_nodes == 5 and not m.fixed.logical_not().any() for m in full)


def test_only_hydrogens_are_added(make_model):
    model = make_model(order='heavy_first')
    with torch.no_grad():
        model.network.type_head[-1].weight[[1, 2, 3]] += 5  # it would rather write others
        model.network.type_head[-1].weight[model.network.stop] = 0
    generator = torch.Generator().manual_seed(0)
    heavy = [spread_out(generator, n, [6, 7, 8]) for n in (1, 4, 2, 6)]
    written = model.add_hydrogens(heavy, seed=1, **FAST)
    for given_atoms, molecule in zip(heavy, written, strict=True):
        size = given_atoms.num_nodes
        assert molecule.z[:size].tolist() == given_atoms.z.tolist()
        assert torch.equal(molecule.pos[:size], given_atoms.pos)
        assert (molecule.z[size:] == 1).all() and molecule.num_nodes <= 12
    assert any(m.num_nodes > h.num_nodes for m, h in zip(written, heavy, strict=True))
    same(model.add_hydrogens(heavy, seed=1, batch_size=2, **FAST), written)
    single = model.add_hydrogens(heavy[0], seed=1, **FAST)
    same([single], written[:1])
    half = Data(z=torch.cat([heavy[1].z, torch.tensor([1])]), pos=torch.cat([heavy[1].pos, heavy[1].pos[:1] + 1]))
    more = model.add_hydrogens(half, **FAST)
    assert torch.equal(more.pos[:5], half.pos) and (more.z[4:] == 1).all()


def test_the_order_in_which_heavy_atoms_are_given_does_not_matter(make_model, qm9):
    """Hydrogens are written after the heavy atoms in their canonical order; these come back in the order given."""
    model, prefill, begun = make_model(order='heavy_first'), None, []
    prefill = model.network.prefill

    def begin(types, pos, ptr, *others):
        begun.append(types.tolist())
        return prefill(types, pos, ptr, *others)

    data = max(qm9, key=lambda data: len(set(data.z.tolist())))
    heavy = Data(z=data.z[data.z > 1], pos=data.pos[data.z > 1])
    shuffled = Data(z=heavy.z.flip(0), pos=heavy.pos.flip(0))
    with patch.object(model.network, 'prefill', begin):
        written = [model.add_hydrogens(given_atoms, seed=3, **FAST) for given_atoms in (heavy, shuffled)]
    assert begun[0] == begun[1] == [model.elements.index(int(z)) for z in CanonicalOrder('heavy_first')(heavy).z]
    for before, molecule in zip((heavy, shuffled), written, strict=True):
        size = before.num_nodes
        assert torch.equal(molecule.z[:size], before.z) and torch.equal(molecule.pos[:size], before.pos)
        assert (molecule.z[size:] == 1).all()


@pytest.mark.parametrize('order', ['file', 'traverse'])
def test_quetzal_writes_with_the_same_engine(order):
    """Another generator: the same laws of beginnings and of batches."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Quetzal(QuetzalConfig.preset('tiny', channels=32, heads=2, num_layers=2, coord_features=16,
                                             head_channels=16, head_features=16, max_atoms=20, order=order)).eval()
        for name, p in model.named_parameters():
            if p.dim() > 1 and 'head.network' not in name:
                torch.nn.init.normal_(p, std=0.1)
    whole = model.generate(5, seed=1, **FAST)
    same(model.generate(5, seed=1, batch_size=2, **FAST), whole)
    scaffold = spread_out(torch.Generator().manual_seed(0), 4, [6, 8, 1])
    for molecule in (*model.complete(scaffold, 3, **FAST), model.add_hydrogens(scaffold, **FAST)):
        assert torch.equal(molecule.pos[:4], scaffold.pos) and molecule.z[:4].tolist() == scaffold.z.tolist()


def test_molecules_with_and_without_a_scaffold_share_a_batch(make_model):
    model = make_model(order='heavy_first')
    atoms = spread_out(torch.Generator().manual_seed(0), 4, [6, 7])
    given_atoms = Scaffold.of(model.network, atoms, "'scaffold'", 12, 3, whole=False)
    requests = [GenerationRequest(i, 12, scaffold=given_atoms if i % 2 else None) for i in range(6)]

    def written(requests):
        return list(generate_molecules(model.network, requests, SamplingConfig(num_steps=4)))
    alone = [written([request])[0] for request in requests]
    same(written(requests), alone)
    assert ['fixed' in m for m in alone] == [False, True] * 3


@pytest.mark.parametrize('scaffold, message', [
    (Data(z=torch.tensor([6, 35]), pos=PLACES), r"'scaffold' .*'z' must be one of .* \(got 35 at atom 1\)"),
    (Data(z=CARBON, pos=PLACES * torch.nan), r"'scaffold' .*'pos' must be finite \(got \[nan, nan, nan\] at atom 0\)"),
    (Data(z=CARBON, pos=PLACES / 5), r'at least 0.4 Å apart \(got 0.3 Å between atom 0, C, and atom 1, C\)'),
    (Data(z=CARBON.repeat(4), pos=torch.randn(8, 3) * 9), r"'max_atoms' is 7 \(got 8 atoms\)"),
    (Data(z=CARBON.repeat(20), pos=torch.randn(40, 3) * 9), r"'max_atoms' is 30 \(got molecule 0 of 40 atoms\)"),
    (Data(z=CARBON[:0], pos=PLACES[:0]), r'molecule 0 has no atoms'),
    (Data(z=CARBON.float(), pos=PLACES), r"'z' must hold whole numbers \(got torch.float32\)"),
    (Data(z=CARBON, pos=PLACES[:1]), r"'z' must be \[N\] and 'pos' \[N, 3\]"),
    (Data(z=CARBON), r"'z' and 'pos' must be there"),
], ids=lambda value: str(value)[:30] if isinstance(value, str) else '')
def test_bad_scaffolds(make_model, scaffold, message):
    model = make_model(order='heavy_first')
    with pytest.raises(ValueError, match=message):
        model.complete(scaffold, 2, max_atoms=7, num_steps=2)
    with pytest.raises(ValueError, match=message.replace("'scaffold'", "molecule 1 of 'heavy'")):
        model.add_hydrogens([Data(z=CARBON, pos=PLACES), scaffold], max_atoms=7, num_steps=2)


def test_models_that_cannot(make_model):
    scaffold = Data(z=CARBON, pos=PLACES)
    with pytest.raises(ValueError, match=r"has the hydrogens last, as 'heavy_first' \(got order 'smiles'"):
        make_model().add_hydrogens(scaffold)
    with pytest.raises(ValueError, match=r"needs a model that knows hydrogen \(got elements \(6, 8\)\)"):
        make_model(order='heavy_first', elements=(6, 8)).add_hydrogens(scaffold)
    with pytest.raises(ValueError, match=r"order 'rank' cannot begin with a part of a molecule"):
        make_model(order='rank').complete(scaffold)


@pytest.mark.parametrize('arguments, message', [
    (dict(num_samples=0), r"'num_samples' must be at least 1 \(got 0\)"),
    (dict(num_steps=0), r"'num_steps' must be at least 2 for 'dpmpp' \(got 0\)"),
    (dict(temperature=-1.0), r"'temperature' must not be negative \(got -1.0\)"),
    (dict(max_atoms=31), r"'max_atoms' must be at most 30, the model's own \(got 31\)"),
    (dict(batch_size=0), r"'batch_size' must be at least 1 \(got 0\)"),
], ids=str)
def test_bad_arguments_of_complete(make_model, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_model().complete(Data(z=CARBON, pos=PLACES), **arguments)
