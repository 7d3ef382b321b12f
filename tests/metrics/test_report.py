import dataclasses
import json
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from molecules_by_hand import BY_HAND, CO2, EMPTY, HCN, METHANE, METHYL, NOT_FINITE, TWO_WATERS, WATER
from torch_geometric.data import Data

from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.metrics import FIGURES, Report, comparison, evaluate, validity
from torch_geometric_inertial.metrics.report import wilson_interval

pytest.importorskip('rdkit')


@pytest.fixture(scope='module')
def real():
    return list(QM9Sample()[:300])


@pytest.mark.parametrize('name', BY_HAND)
def test_verdicts_by_hand(name):
    data, _, stable, status, connected, smiles = BY_HAND[name]
    found = validity([data])
    assert found.status == [status] and found.connected == [connected] and found.smiles == [smiles]
    report = evaluate([data])
    assert report.status == (status,) and report.stable == (stable,) and report.smiles == (smiles,)


def test_the_report_of_a_mixed_set():
    report = evaluate([METHANE, WATER, WATER, METHYL, TWO_WATERS, NOT_FINITE, EMPTY, None], num_requested=10)
    assert (report.num_requested, report.num_atoms) == (10, 5 + 3 + 3 + 4 + 6 + 3)
    assert report.atom_stability == (5 + 3 + 3 + 3 + 6 + 1) / 24
    assert report.molecule_stability == 4 / 10
    assert report.validity == 5 / 10
    assert report.connected == 4 / 10
    assert report.valid_and_connected == 4 / 10
    assert report.uniqueness == 3 / 5
    assert report.valid_and_unique == 3 / 10
    assert report.novelty is None
    assert report.failures() == {'ok': 4, 'missing': 3, 'disconnected': 1, 'not_finite': 1, 'empty': 1}
    for name, (low, high) in report.intervals.items():
        assert 0 <= low <= getattr(report, name) <= high <= 1


def test_novelty():
    generated = [METHANE, WATER, WATER, HCN, None]
    assert evaluate(generated, reference=[WATER, CO2]).novelty == 2 / 3
    assert evaluate(generated, reference={'[H]O[H]'}).novelty == 2 / 3
    assert evaluate(generated, reference=frozenset()).novelty == 1
    assert evaluate([None], reference=[WATER]).novelty == 0


def test_nothing_valid():
    report = evaluate([None, NOT_FINITE])
    assert all(getattr(report, name) in (0, None) for name in FIGURES if name != 'atom_stability')


def rotation(seed):
    q, r = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    q = q * r.diagonal().sign()
    q[:, 0] *= q.det()
    return q


@settings(deadline=None, max_examples=8)
@given(seed=st.integers(0, 2**31))
def test_numbering_pose_and_order_change_no_number(seed, real):
    generator = torch.Generator().manual_seed(seed)
    molecules = [case[0] for case in BY_HAND.values()] + real[:60]
    changed = []
    for data in molecules:
        if data is not None:
            order = torch.randperm(data.num_nodes, generator=generator)
            shift = torch.randn(3, generator=generator, dtype=torch.float64)
            pos = data.pos.double() @ rotation(seed).T + shift
            data = Data(z=data.z[order], pos=pos[order], finished=data.get('finished'))
        changed.append(data)
    shuffle = torch.randperm(len(molecules), generator=generator).tolist()
    a, b = evaluate(molecules), evaluate([changed[i] for i in shuffle])
    assert [a.status[i] for i in shuffle] == list(b.status)
    assert [a.smiles[i] for i in shuffle] == list(b.smiles)
    for name in FIGURES:
        assert getattr(a, name) == getattr(b, name), name
    for name, ends in a.intervals.items():
        assert b.intervals[name] == pytest.approx(ends, abs=1e-12), name


def test_real_molecules(real):
    report = evaluate(real)
    assert report.atom_stability > 0.98 and report.molecule_stability > 0.9
    assert report.validity > 0.95 and report.valid_and_connected > 0.95 and report.uniqueness > 0.99


def test_real_qm9(shared_data):
    import numpy as np

    with np.load(shared_data / 'qm9' / 'qm9_geom.npz') as file:
        z, ptr, pos = torch.from_numpy(file['z']), file['ptr'].tolist(), torch.from_numpy(file['pos_1e5'] * 1e-5)
    chosen = np.random.default_rng(0).choice(len(ptr) - 1, 6000, replace=False).tolist()
    report = evaluate([Data(z=z[ptr[i]:ptr[i + 1]], pos=pos[ptr[i]:ptr[i + 1]]) for i in chosen])
    assert round(100 * report.atom_stability, 2) == 99.46
    assert round(100 * report.molecule_stability, 2) == 95.98
    assert round(100 * report.validity, 2) == 98.07


def test_a_report_survives_json():
    report = evaluate([METHANE, None, CO2], reference=[METHANE])
    assert Report.from_json(report.to_json()) == report
    assert json.loads(report.to_json())['protocol'] == 'edm-qm9'
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.validity = 1.0


def test_what_a_report_prints():
    text = str(evaluate([METHANE, None]))
    lines = text.splitlines()
    assert lines[0].startswith('edm-qm9 v1, RDKit 20') and lines[0].endswith(', 2 requested')
    assert lines[2].startswith('atom stability       100.00  100.00 – 100.00')
    assert lines[3].startswith('molecule stability    50.00    9.45 –  90.55')
    assert lines[-1] == 'verdicts: 1 ok, 1 missing'


def test_comparison():
    model, data = evaluate([METHANE, None]), evaluate([METHANE, WATER], reference=[])
    lines = comparison({'model': model, 'real data': data}).splitlines()
    assert lines[1].split() == ['model', 'real', 'data']
    assert lines[3].split() == ['molecule', 'stability', '50.00', '100.00']
    assert lines[-2].split() == ['novelty', '–', '100.00']
    assert lines[-1].split() == ['requested', '2', '2']
    other = evaluate([METHANE], 'edm')
    with pytest.raises(ValueError, match=r'cannot be compared \(a: edm-qm9 v1, b: edm v1\)'):
        comparison({'a': model, 'b': other})
    with pytest.raises(ValueError, match='cannot be compared'):
        comparison({'a': model, 'b': dataclasses.replace(model, protocol_version=2)})
    with pytest.raises(ValueError, match="'reports' must hold at least one report"):
        comparison({})


def test_intervals():
    assert wilson_interval(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe, 1998
    low, high = evaluate([METHANE] * 20 + [METHYL] * 20).intervals['atom_stability']
    assert low < 160 / 180 < high and high - low < 0.1


def test_bad_arguments():
    with pytest.raises(ValueError, match="'molecules' must hold at least one molecule"):
        evaluate([])
    with pytest.raises(ValueError, match="'protocol' must be one of"):
        evaluate([WATER], 'edm-geom')


def test_without_rdkit(monkeypatch):
    monkeypatch.setitem(sys.modules, 'rdkit', None)
    with pytest.raises(ImportError, match=r"this needs RDKit: pip install 'torch_geometric_inertial\[chem\]'"):
        evaluate([WATER])
