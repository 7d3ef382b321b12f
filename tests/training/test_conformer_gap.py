import json

import pytest
import torch
from helpers.conformer_cases import conformer_set, small_model
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from torch_geometric_inertial.models import GeoMFormer
from torch_geometric_inertial.training import (
    ConformerGapLoss,
    FitConfig,
    PackedTargets,
    RelaxationInput,
    fit,
    predict_from_conformers,
    relaxation_errors,
)
from torch_geometric_inertial.training.conformer_gap import molecule_pairs, scheduled


def known(gap, pos, **kwargs):
    """The loss of a model whose predictions are given."""
    model = small_model()
    loss = ConformerGapLoss(model, conformer_set(), **kwargs)
    model.forward = lambda *_, **__: (torch.tensor(gap, dtype=torch.float64), torch.tensor(pos))
    return loss


def by_hand(progress=0.0):
    """Two molecules, a pair and an atom."""
    batch = PackedTargets(torch.tensor([0, 2, 3]), dict(z=torch.tensor([1, 8, 6]), pos=torch.zeros(3, 3),
                                                        pos_relaxed=torch.tensor([[0.0, 0, 0], [3, 0, 0], [1, 1, 1]])),
                          dict(gap=torch.tensor([4.0, 6.0], dtype=torch.float64))).batch()
    batch.progress = progress
    return batch


@pytest.mark.parametrize('progress, weights', [(0.0, (0.3, 1.5)), (0.5, (0.18, 0.9)), (1.0, (0.06, 0.3))])
def test_a_case_by_hand(progress, weights):
    loss = known([4.5, 5.0], [[0.0, 0, 0], [3, 4, 0], [1, 1, 0]])
    terms = loss(by_hand(progress))
    assert float(terms.gap_mae) == pytest.approx((0.5 + 1) / 2)
    assert float(terms.position_l1) == pytest.approx(((0 + 4) / 2 + 1) / 2)
    assert float(terms.distance_l1) == pytest.approx(((5 - 3) + 0) / 2)  # an atom alone has no pair
    expected = 0.75 + weights[0] * 1.5 + weights[1] * 1.0
    assert float(terms.total) == pytest.approx(expected, rel=1e-6)


def test_weights_that_are_given():
    loss = known([4.5, 5.0], [[0.0, 0, 0], [3, 4, 0], [1, 1, 0]], position_weight=(0, 1), distance_weight=(2, 0))
    assert float(loss(by_hand(0.0)).total) == pytest.approx(0.75 + 2 * 1.0)
    assert float(loss(by_hand(1.0)).total) == pytest.approx(0.75 + 1.5)


@given(first=st.floats(0, 10), last=st.floats(0, 10), progress=st.floats(0, 1))
def test_the_schedule_is_a_line(first, last, progress):
    ends = (first, last)
    assert scheduled(ends, 0.0) == first and scheduled(ends, 1.0) == pytest.approx(last)
    middle = (scheduled(ends, 0.0) + scheduled(ends, 2 * min(progress, 0.5))) / 2
    assert scheduled(ends, min(progress, 0.5)) == pytest.approx(middle)
    assert scheduled(ends, -1.0) == first and scheduled(ends, 7.0) == pytest.approx(last)


@given(sizes=st.lists(st.integers(0, 7), min_size=1, max_size=6))
def test_pairs_are_each_molecules_own(sizes):
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    row, col, offsets = molecule_pairs(ptr)
    expected = [(i, j) for a, b in zip(ptr.tolist(), ptr.tolist()[1:], strict=False)
                for i in range(a, b) for j in range(i + 1, b)]
    assert list(zip(row.tolist(), col.tolist(), strict=True)) == expected
    assert offsets.tolist() == [0, *torch.tensor([n * (n - 1) // 2 for n in sizes]).cumsum(0).tolist()]


def test_the_model_starts_at_the_mean_gap():
    model, data = small_model(), conformer_set()
    ConformerGapLoss(model, data)
    nn.init.zeros_(model.scalar_head.out.weight)
    nn.init.zeros_(model.scalar_head.out.bias)
    batch, gap = data.batch(), data.molecule_columns['gap']
    torch.testing.assert_close(model(batch.z, batch.pos, batch.batch)[0], gap.mean().expand(len(data)))
    assert float(model.scale) == pytest.approx(float(gap.std()))


def test_equal_gaps_have_scale_one():
    data = conformer_set()
    data.molecule_columns['gap'] = torch.full((24, ), 5.0, dtype=torch.float64)
    model = small_model()
    ConformerGapLoss(model, data)
    assert float(model.scale) == 1.0


def test_derivatives_are_finite_where_atoms_meet():
    loss = ConformerGapLoss(small_model(), conformer_set())
    pos = torch.zeros(3, 3, requires_grad=True)
    loss.model.forward = lambda *_, **__: (torch.zeros(2, dtype=torch.float64), pos)
    loss(by_hand()).total.backward()
    assert bool(pos.grad.isfinite().all())


def test_training_lowers_every_term_and_beats_what_came_in(tmp_path):
    data, held_out = conformer_set(96), conformer_set(48, seed=1)
    loss = ConformerGapLoss(small_model(), data)
    config = FitConfig(num_steps=200, batch_size=32, lr=5e-3, warmup_steps=10, log_every=20, ema_decay=0.98)
    trained = fit(loss, data, tmp_path, config, augment=RelaxationInput())
    log = [json.loads(line) for line in (tmp_path / 'log.jsonl').read_text().splitlines()]
    for term in ('total', 'gap_mae', 'position_l1', 'distance_l1'):
        assert log[-1][term] < 0.8 * log[0][term]
    errors = relaxation_errors(predict_from_conformers(trained.model, held_out), held_out)
    assert errors['rmsd'] < 0.8 * errors['conformer_rmsd']
    gap = held_out.molecule_columns['gap']
    assert errors['gap_mae'] < 0.8 * float((gap - data.molecule_columns['gap'].mean()).abs().mean())


def test_progress_runs_from_zero_to_one_and_survives_a_stop(tmp_path):
    class Seen(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.progress = nn.Parameter(torch.ones(())), []

        def forward(self, batch, generator=None):
            from torch_geometric_inertial.training.prediction_loss import PositionTerms

            self.progress.append(batch.progress)
            return PositionTerms(self.weight.square())

    seen = Seen()
    fit(seen, conformer_set(), tmp_path, FitConfig(num_steps=10, batch_size=8, accumulate=2, save_every=4))
    assert seen.progress == pytest.approx([k / 10 for k in range(10) for _ in range(2)])
    (tmp_path / 'checkpoint-000000010.pt').unlink()
    again = Seen()
    fit(again, conformer_set(), tmp_path, FitConfig(num_steps=10, batch_size=8, save_every=4))
    assert again.progress == pytest.approx([0.8, 0.9])


def test_gaps_alone_from_relaxed_geometries():
    model = small_model(vector_head='none')
    data = conformer_set()
    loss = ConformerGapLoss(model, data, position_weight=(0, 0), distance_weight=(0, 0))
    batch = data.batch()
    terms = loss(batch)
    gap = model(batch.z, batch.pos, batch.batch)[0].detach()
    assert float(terms.total.detach()) == pytest.approx(float((gap - batch.gap).abs().mean()))
    assert float(terms.position_l1) == float(terms.distance_l1) == 0


@pytest.mark.parametrize('model, arguments, message', [
    (dict(vector_head='none'), {}, r"'model' must predict one gap, .* \(got 1, 'mean' and 'none'\)"),
    (dict(scalar_head='sum'), {}, r"'model' must predict one gap, .* \(got 1, 'sum' and 'position'\)"),
    (dict(elements=(1, 6)), {}, r"'data' must hold elements of \[1, 6\] \(got \[8\]\)"),
    ({}, dict(position_weight=(0.3, -1)), r"'position_weight' must be a first and a last .* \(got \(0.3, -1\)\)"),
    ({}, dict(distance_weight=(1.5, )), r"'distance_weight' must be a first and a last .* \(got \(1.5,\)\)"),
])
def test_errors(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        ConformerGapLoss(small_model(**model), conformer_set(), **arguments)


def test_prediction_is_the_mean_over_the_conformers_that_there_are():
    model, data = small_model(), conformer_set(6)
    data.atom_columns['conformers'] *= torch.tensor([1.0, 1.1, 1.2]).view(1, 3, 1)
    data.molecule_columns['num_conformers'] = torch.tensor([1, 2, 3, 3, 2, 1])
    predicted = predict_from_conformers(model, data, batch_size=4)
    batch = data.batch()
    with torch.no_grad():
        each = torch.stack([model.eval()(batch.z, batch.conformers[:, k], batch.batch)[0] for k in range(3)], 1)
        pos = model(batch.z, batch.conformers[:, 0], batch.batch)[1]
    for i, count in enumerate(batch.num_conformers.tolist()):
        assert float(predicted.gap[i]) == pytest.approx(float(each[i, :count].mean()), rel=1e-5)
        assert float(predicted.gap_spread[i]) == pytest.approx(float(each[i, :count].std(unbiased=False)), abs=1e-5)
    torch.testing.assert_close(predicted.pos, pos, atol=1e-5, rtol=0)
    one = predict_from_conformers(model, data, max_conformers=1)
    torch.testing.assert_close(one.gap, each[:, 0], atol=1e-5, rtol=0)
    assert float(one.gap_spread.max()) == 0


def test_prediction_leaves_the_model_in_its_mode_and_errors_without_geometry():
    model, data = small_model().train(), conformer_set(4)
    predicted = predict_from_conformers(model, data)
    assert model.training
    del data.atom_columns['pos_relaxed']
    assert set(relaxation_errors(predicted, data)) == {'gap_mae'}
    with pytest.raises(ValueError, match=r"'max_conformers' must be at least 1 \(got 0\)"):
        predict_from_conformers(model, data, max_conformers=0)
    data.molecule_columns['num_conformers'][2] = 0
    with pytest.raises(ValueError, match=r"'data' must have a conformer of each molecule \(got none of 2\)"):
        predict_from_conformers(model, data)


def test_presets_can_be_trained_this_way():
    for name in ('pcqm4mv2', 'molecule3d'):
        with torch.device('meta'):
            config = GeoMFormer.config_class.preset(name)
            model = GeoMFormer(config)
        assert (config.scalar_head, config.vector_head, config.num_scalars) == ('mean', 'position', 1)
        assert 25 * config.channels**2 * config.num_layers < sum(p.numel() for p in model.parameters())
