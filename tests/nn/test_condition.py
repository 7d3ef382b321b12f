import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_geometric_inertial.nn import Condition

NAN = float('nan')


def condition(dropout=0.0, num_groups=4, properties=('gap', 'mu'), **kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = Condition(8, num_groups, properties, dropout, **kwargs).eval()
    if properties:
        layer.fit_properties(torch.tensor([[4.0, 0.0], [8.0, 2.0], [6.0, NAN]]))
    return layer


def multi_hot(rows):
    return {'groups': torch.tensor(rows)}


def values(*rows):
    return {'properties': torch.tensor(rows)}


@given(st.lists(st.lists(st.integers(0, 1), min_size=4, max_size=4), min_size=1, max_size=5))
def test_a_condition_is_the_sum_of_its_groups_and_no_condition_is_null(rows):
    layer = condition(0.3)
    expected = torch.stack([sum((layer.groups[g] for g in range(4) if row[g]), torch.zeros(8)) if any(row)
                            else layer.null for row in rows])
    torch.testing.assert_close(layer(multi_hot(rows), len(rows)), expected)
    nothing = layer.null.expand(len(rows), -1)
    for conditions in (None, {}, multi_hot([[0] * 4] * len(rows)), values(*[[NAN, NAN]] * len(rows))):
        assert torch.equal(layer(conditions, len(rows)), nothing)
    assert torch.equal(condition(num_groups=0, properties=())(None, 2), condition(num_groups=0).null.expand(2, -1))


@given(st.lists(st.tuples(st.floats(3, 9), st.one_of(st.just(NAN), st.floats(-1, 3))), min_size=1, max_size=5))
def test_rows_and_conditions_add_up_on_their_own(rows):
    layer = condition()
    both = layer(values(*rows), len(rows))
    for row, out in zip(rows, both, strict=True):
        torch.testing.assert_close(layer(values(row), 1)[0], out)
        parts = layer(values([row[0], NAN]), 1)[0]
        if row[1] == row[1]:
            parts = parts + layer(values([NAN, row[1]]), 1)[0]
        torch.testing.assert_close(parts, out)
        with_group = layer(values(row) | multi_hot([[0, 1, 0, 0]]), 1)[0]
        torch.testing.assert_close(with_group, out + layer.groups[1])


def test_an_embedding_is_a_smooth_function_of_the_value_that_tells_values_apart():
    layer = condition()
    grid = torch.linspace(4, 8, 401)
    out = layer(values(*[[v, NAN] for v in grid.tolist()]), 401)
    step = (out.diff(dim=0).norm(dim=1) / (out - out.mean(0)).norm(dim=1).mean())
    assert step.max() < 0.1
    distance = torch.cdist(out, out)[0]
    assert distance[20:].min() > 4 * distance[1]


@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-100, 100))
def test_units_do_not_matter(scale, shift):
    a, b = (Condition(8, 0, ('x', )).eval() for _ in range(2))
    b.load_state_dict(a.state_dict())
    data = torch.tensor([[1.0], [2.0], [4.0], [7.0]], dtype=torch.float64)
    a.fit_properties(data)
    b.fit_properties((data + shift) * scale)
    torch.testing.assert_close(a({'properties': data}, 4), b({'properties': (data + shift) * scale}, 4), atol=0.02,
                               rtol=0.02)


def test_the_range_of_the_training_set_is_part_of_the_weights():
    layer, other = condition(), condition()
    other.fit_properties(torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    assert layer.property_mean.tolist() == [6.0, 1.0] and layer.property_std.tolist() == [2.0, pytest.approx(2**0.5)]
    assert (layer.property_low.tolist(), layer.property_high.tolist()) == ([4.0, 0.0], [8.0, 2.0])
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(values([5.0, 1.5]), 1), layer(values([5.0, 1.5]), 1))


def test_a_layer_with_nothing_to_ask_for_has_the_null_vector_alone():
    assert list(Condition(8).state_dict()) == ['null']
    assert Condition(8, dropout=0.0).has_null and Condition(8, 3, dropout=0.1).has_null
    assert not Condition(8, 3, dropout=0.0).has_null and not Condition(8, 0, ('gap', ), dropout=0.0).has_null


def test_training_drops_whole_conditions_and_single_groups():
    layer, n = condition(0.25).train(), 20_000
    with torch.no_grad():
        layer.null.fill_(100)
        layer.groups.copy_(torch.eye(4, 8))
    out = layer({'groups': torch.tensor([1, 1, 0, 1]).expand(n, 4)}, n, torch.Generator().manual_seed(0))
    null = (out == 100).all(1)
    assert null.float().mean().item() == pytest.approx(0.25, abs=0.02)
    share = out[~null].mean(0)
    torch.testing.assert_close(share[:4], torch.tensor([0.75, 0.75, 0.0, 0.75]), atol=0.02, rtol=0)
    assert torch.equal(layer(None, 3), layer.null.expand(3, -1))


def test_training_drops_single_properties_and_null_is_of_all_molecules():
    layer, n = condition(0.25, num_groups=0).train(), 20_000
    with torch.no_grad():
        layer.null.fill_(100)
    out = layer({'properties': torch.tensor([5.0, 1.0]).expand(n, 2)}, n, torch.Generator().manual_seed(0))
    layer.eval()
    kinds = {name: layer(values(row), 1)[0] for name, row in
             dict(both=[5.0, 1.0], first=[5.0, NAN], second=[NAN, 1.0], null=[NAN, NAN]).items()}
    share = {name: torch.isclose(out, kind).all(1).float().mean().item() for name, kind in kinds.items()}
    kept = 0.75**3
    assert share == pytest.approx(dict(both=kept, first=kept / 3, second=kept / 3, null=1 - kept * 5 / 3), abs=0.02)


def test_molecules_without_groups_do_not_crowd_into_the_null_vector():
    layer = condition(0.25).train()
    with torch.no_grad():
        layer.null.fill_(100)
    out = layer({'groups': torch.zeros(20_000, 4)}, 20_000, torch.Generator().manual_seed(0))
    assert (out == 100).all(1).float().mean().item() == pytest.approx(0.25, abs=0.02)


def test_every_parameter_takes_part_in_training():
    layer = condition(0.25).train()
    for conditions in (None, multi_hot([[0, 0, 0, 0]]), values([NAN, NAN])):
        layer.zero_grad()
        layer(conditions, 1).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


def test_condition_dropout_comes_from_the_generator():
    layer, state = condition(0.5).train(), torch.get_rng_state()
    conditions = {'groups': torch.ones(50, 4), 'properties': torch.ones(50, 2)}
    a, b = (layer(conditions, 50, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), state)


def test_conditions_by_name():
    layer = condition(group_names=('a', 'b', 'c', 'd'))
    conditions = layer.as_tensors(2, ['d', 'a'], {'mu': 1.0, 'gap': torch.tensor([5.0, NAN])})
    assert conditions['groups'].tolist() == [[1, 0, 0, 1]] * 2
    torch.testing.assert_close(conditions['properties'], torch.tensor([[5.0, 1.0], [NAN, 1.0]]), equal_nan=True)
    assert layer(conditions, 2).shape == (2, 8)
    rows = torch.eye(4)[:2].bool()
    assert layer.as_tensors(2, rows)['groups'].tolist() == rows.float().tolist()
    assert layer.as_tensors(3, rows[1])['groups'].tolist() == [[0, 1, 0, 0]] * 3
    assert layer.as_tensors(2) is None and layer.as_tensors(2, None, {}) is None


def test_a_value_outside_the_training_range_warns():
    layer = condition()
    for value in (3.9, 8.1, torch.tensor([5.0, 3.9])):
        with pytest.warns(UserWarning, match=r'gap = (3\.9|8\.1) is outside the training range, 4 to 8'):
            layer.as_tensors(2, properties={'gap': value})
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        layer.as_tensors(2, properties={'gap': torch.tensor([4.0, 8.0]), 'mu': NAN})
        layer(values([50.0, NAN]), 1)  # reading, not asking


@pytest.mark.parametrize('ask, message', [
    (lambda c: c({'groups': torch.ones(2, 3)}, 2), r"'groups' must be \[2, 4\] \(got \(2, 3\)\)"),
    (lambda c: c({'properties': torch.ones(2)}, 2), r"'properties' must be \[2, 2\] \(got \(2,\)\)"),
    (lambda _: condition(num_groups=0)({'groups': torch.ones(2, 3)}, 2), r"'groups' must be \[2, 0\] \(got \(2, 3\)\)"),
    (lambda _: Condition(8, 0, ('gap', ))({'properties': torch.ones(1, 1)}, 1),
     r"the range of 'properties' is not known: 'fit_properties' comes first"),
    (lambda c: c.fit_properties(torch.ones(3)), r"'properties' must be \[M, 2\], gap, mu \(got \(3,\)\)"),
    (lambda c: c.fit_properties(torch.tensor([[1.0, 1.0], [2.0, 1.0]])),
     r"property 'mu' must have two different values or more, all finite \(got \[1.0\]\)"),
    (lambda c: c.fit_properties(torch.tensor([[1.0, 1.0], [torch.inf, 2.0]])),
     r"property 'gap' must have two different values or more, all finite \(got \[1.0, inf\]\)"),
    (lambda c: c.as_tensors(3, torch.ones(5)), r"'groups' must be \[4\] or \[3, 4\] \(got \(5,\)\)"),
    (lambda c: c.as_tensors(3, torch.ones(2, 4)), r"'groups' must be \[4\] or \[3, 4\] \(got \(2, 4\)\)"),
    (lambda c: c.as_tensors(3, torch.full((4, ), 2)), r"'groups' must be 0 or 1 \(got 2\)"),
    (lambda c: c.as_tensors(3, ['a']), r"the model does not know the group 'a' \(it knows none by name\)"),
    (lambda _: condition(group_names=tuple('abcd')).as_tensors(3, ['e']),
     r"the model does not know the group 'e' \(it knows a, b, c, d\)"),
    (lambda c: c.as_tensors(3, None, {'homo': 1.0}),
     r"the model does not know the property 'homo' \(it knows gap, mu\)"),
    (lambda c: c.as_tensors(3, None, {'gap': torch.ones(2)}),
     r"property 'gap' must be a number or \[3\] \(got \(2,\)\)"),
    (lambda c: c.as_tensors(3, None, {'gap': -torch.inf}), r"property 'gap' must be finite \(got -inf\)"),
], ids=range(15))
def test_errors(ask, message):
    with pytest.raises(ValueError, match=message):
        ask(condition())
