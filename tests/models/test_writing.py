"""Many molecules at a time: rows of their own length, given beginnings, guidance, streams, too little memory."""
import itertools
import warnings
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data

from torch_geometric_inertial.models import Quetzal, QuetzalConfig, autoregressor, prefix, writing, writing_state
from torch_geometric_inertial.models.fragment import Fragment, Poses, propose_poses
from torch_geometric_inertial.models.writing import guided, out_of_memory

VARIANTS = [dict(), dict(coordinate_target='relative'), dict(coordinate_target='absolute'),
            dict(coordinate_target='absolute', fusion='heads'), dict(environment_channels=0, valence_channels=0)]
FAST = dict(num_steps=4, max_atoms=12)


def same(a, b, atol=5e-2):  # the flow of random weights blows up the last digit of float32
    assert [m.z.tolist() for m in a] == [m.z.tolist() for m in b]
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x.pos, y.pos, atol=atol, rtol=0)


def rows_through(model, function):
    """What :obj:`function` returns, and how many rows went through the type head and the diffusion head."""
    rows = dict(type=0, place=0)

    def count(name):
        def hook(module, args, out):
            rows[name] += args[0].size(0)
        return hook
    hooks = [model.type_head.register_forward_hook(count('type')),
             model.head.cond_linear.register_forward_hook(count('place'))]
    result = function()
    for hook in hooks:
        hook.remove()
    return result, rows


def spread_out(generator, num, elements):
    """Random atoms that do not overlap."""
    pos = torch.randn(num, 3, generator=generator) * num**(1 / 3)
    while num > 1 and torch.cdist(pos, pos).fill_diagonal_(9).min() < 0.8:
        pos = torch.randn(num, 3, generator=generator) * num**(1 / 3)
    z = torch.tensor(elements)[torch.randint(len(elements), (num, ), generator=generator)]
    return Data(z=z, pos=pos)


def as_it_is(fragment, generator):
    """The only candidate: the pose and order in which the fragment is given."""
    perm, turn = torch.arange(fragment.pos.size(0)), torch.eye(3).double()
    return Poses(perm.unsqueeze(0), turn.unsqueeze(0), fragment.pos.mean(0, keepdim=True))


@pytest.mark.parametrize('batch_size', [1, 3, 50])
def test_no_row_is_computed_for_nothing(make_model, batch_size):
    """Whatever the batch size: n + 1 types and n places for a molecule of n atoms, none for those that are done."""
    model = make_model()
    molecules, rows = rows_through(model, lambda: model.generate(9, batch_size=batch_size, **FAST))
    sizes = [m.num_nodes for m in molecules]
    assert len(set(sizes)) > 3
    assert rows == dict(type=sum(sizes) + 9, place=sum(sizes))


@pytest.mark.parametrize('variant', VARIANTS, ids=str)
def test_what_follows_a_beginning_is_what_followed_when_it_was_written(make_model, variant):
    """A prefix read at once leaves the caches as writing it atom by atom does: the same numbers, the same molecule."""
    model, sizes = make_model(order='heavy_first', elements=(6, 7, 8), **variant), []
    for seed in range(9):
        parents = []
        hook = model.placement.register_forward_hook(lambda _, args, out, parents=parents: parents.append(args[2]))
        (whole, ) = model.generate(1, seed=seed, **FAST)
        hook.remove()
        parents = torch.cat(parents, dim=1)  # as drawn; read from places, they would be the nearest atoms
        sizes.append(whole.num_nodes)
        for size in {1, whole.num_nodes // 2, whole.num_nodes - 1} - {0}:
            start = Data(z=whole.z[:size], pos=whole.pos[:size])
            with (patch.object(writing, 'propose_poses', as_it_is), patch.object(writing, 'MIN_DISTANCE', 0),
                  patch.object(writing, 'prefix_log_prob', lambda *_: torch.zeros(1)),
                  patch.object(autoregressor, 'find_parents', lambda *_, known=parents[:, :size]: known)):
                again, rows = rows_through(model, lambda start=start, seed=seed: model.complete(
                    start, 1, seed=seed, num_poses=1, **FAST))
            same(again, [whole], atol=1e-2)
            assert rows['place'] == whole.num_nodes - size
    assert max(sizes) > 2


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


@pytest.mark.parametrize('order', ['smiles', 'heavy_first'])
@settings(max_examples=15)
@given(seed=st.integers(0, 2**30), size=st.integers(1, 8), hydrogens=st.booleans(),
       dtype=st.sampled_from([torch.float32, torch.float64]))
def test_completed_molecules_contain_the_scaffold_unmoved(make_model, order, seed, size, hydrogens, dtype):
    model, generator = make_model(order=order), torch.Generator().manual_seed(seed)
    scaffold = spread_out(generator, size, [1, 6, 8] if hydrogens else [6, 7])
    scaffold.pos = scaffold.pos.to(dtype) + 30
    before = scaffold.clone()
    written = model.complete(scaffold, 3, seed=seed, num_steps=2, max_atoms=10, num_poses=4)
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


@pytest.mark.parametrize('slots', [1, 3])
def test_memory_grows_with_the_molecules(make_model, slots):
    model = make_model(order='heavy_first')
    expected = model.generate(8, **FAST)
    scaffold = spread_out(torch.Generator().manual_seed(0), 5, [6, 7])
    completed = model.complete(scaffold, 3, **FAST)
    with patch.object(writing_state, 'FIRST_SLOTS', slots):
        same(model.generate(8, batch_size=3, **FAST), expected)
        same(model.complete(scaffold, 3, **FAST), completed)


@given(seed=st.integers(0, 2**30), size=st.integers(1, 9), whole=st.booleans(),
       hydrogens=st.sampled_from(['last', 'between', 'anywhere']))
def test_poses_are_rigid_motions_and_permutations(seed, size, whole, hydrogens):
    generator = torch.Generator().manual_seed(seed)
    data = spread_out(generator, size, [1, 6, 8])
    pos = data.pos.double() + 7
    fragment = Fragment(data.z, data.z, pos, hydrogens, 6, whole)
    poses = propose_poses(fragment, generator)
    moved = poses.positions(pos)
    assert moved.shape == (6, size, 3)
    for k in range(6):
        perm = poses.perm[k]
        assert sorted(perm.tolist()) == list(range(size))
        torch.testing.assert_close(poses.rotation[k].det(), torch.tensor(1.0).double())
        torch.testing.assert_close(poses.select(k).restore(pos, moved[k]), pos[perm], atol=1e-9, rtol=0)
        if hydrogens == 'last':
            z = data.z[perm]
            assert z[:fragment.num_prefix].min() > 1 or z.max() == 1
            assert (z[fragment.num_prefix:] == 1).all()
    assert moved.mean(1).norm(dim=1).max() < (3 if whole else 7)


def test_the_pose_is_drawn_by_the_likelihood(make_model):
    """A model that gives nearly all weight to one candidate takes it."""
    model = make_model(order='heavy_first')
    scaffold = spread_out(torch.Generator().manual_seed(1), 4, [6, 8])
    read, wanted, begun = writing.read_prefix, [], []

    def judged(seen, head, noise):
        score = torch.zeros(seen.ptr.numel() - 1)
        score[5::8] = 50.0
        return score

    def proposed(fragment, generator):
        poses = propose_poses(fragment, generator)
        wanted.append(poses.positions(fragment.pos)[5, 0].float())
        return poses

    def begin(model, types, pos, ptr, *others):
        begun.extend(pos[ptr[:-1]])
        return read(model, types, pos, ptr, *others)

    with (patch.object(writing, 'read_prefix', begin), patch.object(writing, 'propose_poses', proposed),
          patch.object(writing, 'prefix_log_prob', judged)):
        model.complete(scaffold, 3, num_poses=8, **FAST)
    assert len(begun) == 3
    torch.testing.assert_close(torch.stack(begun), torch.stack(wanted))


def test_only_hydrogens_are_added(make_model):
    model = make_model(order='heavy_first')
    with torch.no_grad():
        model.type_head[-1].weight[[1, 2, 3]] += 5  # it would rather write others
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


def test_hydrogens_are_placed_again_in_the_order_that_they_imply(make_model):
    """The model reads the atoms in the canonical order; they come back in the order in which they were given."""
    model = make_model(order='heavy_first')
    generator = torch.Generator().manual_seed(0)
    heavy = [spread_out(generator, n, [6, 7, 8]) for n in (4, 3)]
    begun = []

    def reading(model, types, pos, ptr, begin, caches):
        begun.append([x.tolist() for x in types.split(ptr.diff().tolist())])
        return prefix.read_prefix(model, types, pos, ptr, begin, caches)

    def by_element(data):  # heaviest first
        order = data.z.argsort(descending=True, stable=True)
        return Data(z=data.z[order], pos=data.pos[order], number=data.number[order])

    with patch.object(writing, 'read_prefix', reading):
        written = model.add_hydrogens(heavy, canonical=by_element, seed=3, **FAST)
    assert begun == [[(data.z.sort(descending=True).values - 5).tolist() for data in heavy]]
    for before, molecule in zip(heavy, written, strict=True):
        size = before.num_nodes
        assert torch.equal(molecule.z[:size], before.z) and torch.equal(molecule.pos[:size], before.pos)
        assert (molecule.z[size:] == 1).all()

    def refusing(data):
        raise ValueError('atoms coincide')

    same(model.add_hydrogens(heavy, canonical=refusing, seed=3, **FAST), model.add_hydrogens(heavy, seed=3, **FAST))


def test_a_model_that_has_seen_four_molecules_puts_their_hydrogens_back(make_model, qm9):
    """Learned in a frame and order of their own, given in another pose: the hydrogens come where they were."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make_model(awake=False, order='heavy_first', context_noise=0.0, type_layers=1, coord_layers=1,
                           head_layers=3, head_channels=64, num_draws=16).train()
    molecules = []
    for data in (m for m in qm9 if int((m.z > 1).sum()) >= 2):
        last = (data.z == 1).long().argsort(stable=True)
        molecules.append(Data(z=data.z[last], pos=data.pos[last]))
    molecules = molecules[:4]
    batch, optimizer = Batch.from_data_list(molecules), torch.optim.AdamW(model.parameters())
    for step in range(350):
        for group in optimizer.param_groups:
            group['lr'] = 6e-3 * min(1, (350 - step) / 210)
        noisy = batch.clone()
        noise = torch.randn(batch.num_graphs, 3, generator=torch.Generator().manual_seed(step))
        noisy.pos = batch.pos + 0.3 * noise[batch.batch]
        optimizer.zero_grad()
        model(noisy, torch.Generator().manual_seed(step)).total.backward()
        optimizer.step()
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)))[0]
    turn = turn * torch.linalg.det(turn)
    given_atoms, truth = [], []
    for data in molecules:
        pos = data.pos @ turn.T + 3
        given_atoms.append(Data(z=data.z[data.z > 1], pos=pos[data.z > 1]))
        truth.append(pos)
    right, off = 0, []
    for seed in range(8):
        for molecule, data, pos in zip(model.add_hydrogens(given_atoms, seed=seed), molecules, truth, strict=True):
            if molecule.num_nodes == data.num_nodes:
                right += 1
                # by their distances to the heavy atoms, which in 2-butyne leave a turn about the axis open
                heavy = pos[data.z > 1]
                expected = torch.cdist(pos[data.z == 1], heavy)
                found = torch.cdist(molecule.pos[molecule.z == 1], heavy)
                off += torch.cdist(expected, found).min(dim=1).values.tolist()
    assert right >= 22  # of 32
    assert torch.tensor(off).median() < 0.1


def test_guidance_of_0_is_unconditional_and_1_conditional(make_model):
    model = make_model(num_groups=3, condition_dropout=0.1)
    with torch.no_grad():
        model.condition.groups *= 10
    wanted = dict(groups=torch.tensor([1, 0, 1]), **FAST)
    conditional, rows = rows_through(model, lambda: model.generate(5, **wanted))
    free = model.generate(5, **FAST)
    at_one, rows_at_one = rows_through(model, lambda: model.generate(5, guidance_scale=1.0, **wanted))
    same(at_one, conditional, atol=0)
    assert rows == rows_at_one
    same(model.generate(5, guidance_scale=0.0, **wanted), free, atol=0)
    near, doubled = rows_through(model, lambda: model.generate(5, guidance_scale=1 + 1e-6, **wanted))
    same(near, conditional)
    assert doubled == {name: 2 * number for name, number in rows.items()}
    same(model.generate(5, guidance_scale=1e-6, **wanted), free)
    beyond = model.generate(5, guidance_scale=3.0, **wanted)
    same(model.generate(5, guidance_scale=3.0, batch_size=2, **wanted), beyond)
    with pytest.raises(AssertionError):
        same(beyond, conditional)


def test_guided_logits():
    cond, null = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    both = torch.stack([cond, null], dim=1).flatten(0, 1)
    torch.testing.assert_close(guided(both, 2.5, 2), null + 2.5 * (cond - null))
    assert guided(cond, 1.0, 1) is cond


@settings(max_examples=10)
@given(num=st.integers(1, 9), parts=st.integers(1, 5))
def test_shards_in_order_are_the_whole(make_model, num, parts):
    model, settings = make_model(), dict(num_steps=2, max_atoms=6, seed=3)
    whole = model.generate(num, **settings)
    union = itertools.chain.from_iterable(model.stream(num, shard=(i, parts), **settings) for i in range(parts))
    same(list(union), whole, atol=1e-3)


def test_a_stream_begins_before_it_ends(make_model):
    model = make_model().train()
    stream = model.stream(10**9, batch_size=4, num_steps=2, max_atoms=6)
    first = list(itertools.islice(stream, 10))
    stream.close()
    assert model.training
    same(first, model.eval().generate(10, num_steps=2, max_atoms=6), atol=1e-3)


@pytest.mark.parametrize('error', [
    torch.OutOfMemoryError('CUDA out of memory'),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError('[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried'),
], ids=lambda e: str(e)[:9])
def test_nothing_is_lost_when_memory_runs_out(make_model, error):
    model = make_model()
    expected = model.generate(24, **FAST)
    calls = []

    def scarce(module, args):
        calls.append(args[0].size(0))
        if args[0].size(0) > 3 and len(calls) > 6:  # not at once: some are done by then
            raise error
    for module in (model.type_stack, model.coord_stack):
        hook = module.register_forward_pre_hook(scarce)
        calls.clear()
        with pytest.warns(UserWarning, match='memory ran out: going on with . molecules at a time'):
            same(model.generate(24, **FAST), expected)
        assert max(calls) == 24 and max(calls[-9:]) <= 3
        hook.remove()


def test_other_errors_and_too_little_memory_for_one_are_raised(make_model):
    model = make_model()
    for error, how_often in ((RuntimeError('shape mismatch'), 1), (torch.OutOfMemoryError('CUDA out of memory'), 3)):
        calls = []

        def broken(module, args, error=error, calls=calls):
            calls.append(args[0].size(0))
            raise error
        hook = model.type_stack.register_forward_pre_hook(broken)
        with warnings.catch_warnings(), pytest.raises(RuntimeError, match=str(error)):
            warnings.simplefilter('ignore')
            model.generate(5, **FAST)
        assert calls == [5, 2, 1][:how_often]
        hook.remove()
    assert not out_of_memory(RuntimeError('memory format'))


CARBON = torch.tensor([6, 6])
PLACES = torch.tensor([[0., 0, 0], [1.5, 0, 0]])


@pytest.mark.parametrize('scaffold, message', [
    (Data(z=torch.tensor([6, 35]), pos=PLACES), r"'scaffold' .*'z' must be one of .* \(got 35 at atom 1\)"),
    (Data(z=CARBON, pos=PLACES * torch.nan), r"'scaffold' .*'pos' must be finite \(got \[nan, nan, nan\] at atom 0\)"),
    (Data(z=CARBON, pos=PLACES / 5), r'no two atoms may be within 0.4 Å \(got 0.300 Å between atoms 0 and 1\)'),
    (Data(z=CARBON.repeat(4), pos=torch.randn(8, 3) * 9), r"'max_atoms' is 7 \(got 8 atoms\)"),
    (Data(z=CARBON.repeat(20), pos=torch.randn(40, 3) * 9), r"'max_atoms' is 30 \(got molecule 0 of 40 atoms\)"),
    (Data(z=CARBON[:0], pos=PLACES[:0]), r'cannot read an empty molecule'),
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
    (dict(num_poses=0), r"'num_poses' must be at least 1 \(got 0\)"),
    (dict(num_steps=0), r"'num_steps' must be at least 2 for 'dpmpp' \(got 0\)"),
    (dict(temperature=-1.0), r"'temperature' must not be negative \(got -1.0\)"),
    (dict(max_atoms=31), r"'max_atoms' must be at most 30, the model's own \(got 31\)"),
    (dict(batch_size=0), r"'batch_size' must be at least 1 \(got 0\)"),
], ids=str)
def test_bad_arguments_of_complete(make_model, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_model().complete(Data(z=CARBON, pos=PLACES), **arguments)


def test_bad_guidance_and_shards(make_model):
    model, groups = make_model(num_groups=2), torch.ones(2)
    for scale in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match=r"'guidance_scale' must be finite \(got (nan|inf)\)"):
            model.generate(2, groups=groups, guidance_scale=scale)
    with pytest.raises(ValueError, match=r"'guidance_scale' needs 'groups' or 'properties' \(got 2.0 and neither\)"):
        model.generate(2, guidance_scale=2.0)
    with pytest.raises(ValueError, match=r"without a null condition, with condition_dropout=0 \(got 2.0\)"):
        make_model(num_groups=2, condition_dropout=0.0).generate(2, groups=groups, guidance_scale=2.0)
    for shard in ((2, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match=r"'shard' must be \(i, n\) with 0 <= i < n \(got \("):
            model.stream(4, shard=shard)
