"""What users call: conditions, names, progress, and what a model that has learned writes."""
import copy

import pytest
import torch
from helpers.bonded import canonical_molecules
from helpers.generators import FAST, VARIANTS, real_molecules, same, small_model
from torch_geometric.data import Batch

from torch_geometric_inertial import InertialAR, InertialARConfig, Quetzal, QuetzalConfig


def test_groups_condition_and_their_absence_does_not(make_model):
    model = make_model(num_groups=3)
    with torch.no_grad():
        model.condition.groups *= 10
    free = model.generate(5, num_steps=4)
    asked = torch.tensor([1, 0, 1])
    same(model.generate(5, num_steps=4, groups=asked), model.generate(5, num_steps=4, groups=asked.expand(5, 3)))
    with pytest.raises(AssertionError):
        same(model.generate(5, num_steps=4, groups=asked), free)
    rows = torch.eye(3)[torch.tensor([0, 1, 2, 0, 1])]
    mixed = model.generate(5, num_steps=4, groups=rows)
    same(model.generate(5, num_steps=4, groups=rows, batch_size=2), mixed)
    same(model.generate(5, num_steps=4, groups=rows[1])[1:2], mixed[1:2])


def test_values_and_names_are_asked_for(make_model):
    model = make_model(num_groups=2, group_names=('ketone', 'ether'), properties=('gap', 'mu'))
    model.fit_properties(torch.tensor([[0.1, 0.0], [0.4, 5.0]]))
    with torch.no_grad():
        model.condition.groups *= 10
    few = dict(num_steps=4, max_atoms=8)
    free = model.generate(5, **few)
    same(model.generate(5, **few, groups=['ether']), model.generate(5, **few, groups=torch.tensor([0, 1])))
    same(model.generate(5, **few, properties={}), free, atol=0)
    wide = torch.tensor([0.12, 0.2, 0.3, 0.4, float('nan')])
    mixed = model.generate(5, **few, properties={'gap': wide})
    same(mixed[1:2], model.generate(5, **few, properties={'gap': 0.2})[1:2])
    same(mixed[4:], free[4:])
    with pytest.raises(AssertionError):
        same(mixed, free)
    with pytest.warns(UserWarning, match='gap = 0.5 is outside the training range, 0.1 to 0.4'):
        model.generate(1, **few, properties={'gap': 0.5})


def test_a_model_learns_what_it_is_asked_for(make_model, qm9):
    """Of the beginnings of two molecules, the one whose group or value is asked for; without conditions both."""
    model = make_model(awake=False, type_layers=1, coord_layers=1, num_groups=2, properties=('x', )).train()
    pair = qm9[:2]
    known = [m.z[:2].tolist() for m in pair]
    assert known[0] != known[1]
    conditions = dict(groups=torch.eye(2).repeat(8, 1), properties=torch.tensor([[1.0], [3.0]]).repeat(8, 1))
    batch = Batch.from_data_list(pair * 8).update(conditions)
    model.fit_properties(batch.properties)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(100):
        loss = model(batch, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()

    def shares(**conditions):
        written = [m.z.tolist() for m in model.generate(200, num_steps=8, max_atoms=2, **conditions)]
        return [sum(z == expected for z in written) / 200 for expected in known]
    free = shares()
    for i, value in enumerate((1.0, 3.0)):
        told = [shares(groups=torch.eye(2)[i]), shares(properties={'x': value})]
        guided = shares(groups=torch.eye(2)[i], guidance_scale=2)
        for other in told:
            assert other[i] > free[i] + 0.1 and other[1 - i] < free[1 - i] - 0.1
        assert guided[i] > told[0][i] and guided[1 - i] < told[0][1 - i]


def test_the_progress_bar_counts_molecules(make_model, capsys):
    make_model().generate(3, num_steps=2, batch_size=2)
    assert capsys.readouterr() == ('', '')
    make_model().generate(3, num_steps=2, batch_size=2, progress=True)
    assert '3/3' in capsys.readouterr().err


def test_a_model_that_has_seen_four_molecules_writes_them_again(make_model, qm9):
    model = make_model(awake=False, context_noise=0.0, type_layers=1, coord_layers=1, head_layers=3, head_channels=64,
                       num_draws=16).train()
    molecules = qm9[:4]
    batch = Batch.from_data_list(molecules)
    optimizer = torch.optim.AdamW(model.parameters())
    losses, steps = [], 350
    for step in range(steps):
        for group in optimizer.param_groups:
            group['lr'] = 6e-3 * min(1, (steps - step) / (0.6 * steps))
        loss = model(batch, torch.Generator().manual_seed(step)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    first, last = sum(losses[:10]), sum(losses[-10:])
    assert last < 0.1 * first
    known = {tuple(m.z.tolist()): m for m in molecules}
    written = model.generate(24, num_steps=20, max_atoms=10)
    again = [m for m in written if tuple(m.z.tolist()) in known]
    assert len(again) >= 20 and len({tuple(m.z.tolist()) for m in again}) == 4
    off = []
    for m in again:
        distance, true = (torch.cdist(x.pos, x.pos) for x in (m, known[tuple(m.z.tolist())]))
        bonded = (true > 0) & (true < 1.7)
        off.append((distance - true)[bonded].abs())
    assert torch.cat(off).median() < 0.02


@pytest.mark.parametrize('arguments, message', [
    (dict(num_samples=0), r"'num_samples' must be at least 1 \(got 0\)"),
    (dict(batch_size=0), r"'batch_size' must be at least 1 \(got 0\)"),
    (dict(max_atoms=0), r"'max_atoms' must be at least 1 \(got 0\)"),
    (dict(max_atoms=31), r"'max_atoms' must be at most 30, the model's own \(got 31\)"),
    (dict(temperature=-0.5), r"'temperature' must not be negative \(got -0.5\)"),
    (dict(top_p=0.0), r"'top_p' must be in \(0, 1\] \(got 0.0\)"),
    (dict(top_p=1.5), r"'top_p' must be in \(0, 1\] \(got 1.5\)"),
    (dict(solver='euler'), r"'solver' must be one of .* \(got 'euler'\)"),
    (dict(num_steps=1), r"'num_steps' must be at least 2 for 'dpmpp' \(got 1\)"),
    (dict(groups=torch.ones(3, 2)), r"'groups' must be \[0\] or \[2, 0\] \(got \(3, 2\)\)"),
    (dict(groups=torch.ones(4)), r"'groups' must be \[0\] or \[2, 0\] \(got \(4,\)\)"),
    (dict(groups=['ketone']), r"the model does not know the group 'ketone' \(it knows none by name\)"),
    (dict(properties={'gap': 1.0}), r"the model does not know the property 'gap' \(it knows none\)"),
], ids=str)
def test_errors(make_model, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_model().generate(**(dict(num_samples=2) | arguments))


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


@pytest.mark.parametrize('variant', VARIANTS, ids=str)
@pytest.mark.parametrize('state', ['double', 'default dtype'])
def test_a_model_in_double_and_a_process_in_double_do_the_same(variant, state):
    molecules, model = real_molecules()[3:6], small_model(**variant)
    other = copy.deepcopy(model).double() if state == 'double' else model

    def everything(model):
        batch = Batch.from_data_list(molecules)
        with torch.no_grad():
            loss = model.train()(batch, torch.Generator().manual_seed(0)).total
        model.eval()
        return [float(loss), model.log_prob(molecules, num_steps=8).total.tolist(), model.generate(2, **FAST),
                model.complete(molecules[0], 1, **FAST) if variant else []]
    expected = everything(model)
    torch.set_default_dtype(torch.float32 if state == 'double' else torch.float64)
    try:
        found = everything(other)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found[0] == pytest.approx(expected[0], rel=1e-4) and found[1] == pytest.approx(expected[1], rel=1e-3)
    for a, b in zip(found[2:], expected[2:], strict=True):
        same([m.apply(torch.Tensor.float, 'pos') for m in a], b)


@pytest.mark.parametrize('make', [
    lambda **kwargs: InertialAR(InertialARConfig.preset('tiny', **kwargs)),
    lambda **kwargs: InertialAR(InertialARConfig.preset('tiny', bonds=False, type_layers=1, coord_layers=1, **kwargs)),
    lambda **kwargs: Quetzal(QuetzalConfig.preset('tiny', num_layers=2, **kwargs)),
    lambda **kwargs: Quetzal(QuetzalConfig.preset('bonds', channels=48, heads=2, **kwargs)),
], ids=['InertialAR', 'InertialAR without bonds', 'Quetzal', 'Quetzal with bonds'])
def test_dropout_is_of_training_alone_and_takes_part(make):
    batch = Batch.from_data_list(canonical_molecules(3))

    def loss(model, seed):
        torch.manual_seed(seed)
        return float(model(batch, torch.Generator().manual_seed(0)).total.detach())

    for dropout in (0.0, 0.3):
        torch.manual_seed(0)
        model = make(dropout=dropout).train()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
        assert (loss(model, 1) == loss(model, 2)) == (dropout == 0)
        assert loss(model.eval(), 1) == loss(model, 2)
