r"""One call that judges molecules."""
import dataclasses
import json
import math
import sys
from itertools import pairwise

import pytest
import torch
from helpers.embedded import embedded, moved, relabeled, without
from helpers.molecules_by_hand import (
    BY_HAND,
    CO2,
    COINCIDENT,
    EMPTY,
    HCN,
    METHANE,
    METHYL,
    NOT_FINITE,
    TWO_WATERS,
    WATER,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data

from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.metrics import STATUSES, Report, comparison, evaluate, reference_smiles
from torch_geometric_inertial.metrics.bundled import bundled_figures, bundled_reference
from torch_geometric_inertial.metrics.protocol import get_protocol

pytest.importorskip('rdkit')
EDM = 'edm-qm9'


@pytest.fixture(scope='module')
def real():
    return [Data(z=data.z, pos=data.pos) for data in QM9Sample()[::33]]


@pytest.mark.parametrize('name', BY_HAND)
def test_verdicts_by_hand(name):
    data, _, stable, status, _, smiles = BY_HAND[name]
    report = evaluate([data], EDM)
    assert report.status == (status,) and report.values['stable'] == (stable,) and report.smiles == (smiles,)
    assert status in STATUSES


def test_the_report_of_a_mixed_set():
    report = evaluate([METHANE, WATER, WATER, METHYL, TWO_WATERS, NOT_FINITE, EMPTY, None], num_requested=10)
    assert report.num_requested == 10
    assert report.atom_stability == (5 + 3 + 3 + 3 + 6 + 1) / 24
    assert report.molecule_stability == 4 / 10
    assert report.validity == 5 / 10
    assert report.connected == 4 / 10
    assert report.valid_and_connected == 4 / 10
    assert report.ok == 3 / 10
    assert report.uniqueness == 3 / 5
    assert report.valid_and_unique == 3 / 10
    assert report.novelty is None
    assert report.failures() == {'ok': 3, 'missing': 3, 'radical': 1, 'disconnected': 1, 'not_finite': 1, 'empty': 1}
    for name, (low, high) in report.intervals.items():
        assert 0 <= low <= getattr(report, name) <= high <= 1
    assert report.sizes == {1: 5, 2: 1}  # the one that is not finite has a size, too


def test_an_element_that_the_protocol_does_not_know_is_in_no_denominator():
    hcl = Data(z=torch.tensor([17, 1]), pos=torch.tensor([[0.0, 0, 0], [1.27, 0, 0]]))
    report = evaluate([METHANE, hcl, None], EDM)
    assert report.status == ('ok', 'unknown_element', 'missing')
    assert (report.figures['validity'].count, report.figures['validity'].total) == (1, 2)
    assert report.atom_stability == 1.0 and report.num_requested == 3
    assert 'not judged: 1 with an element that edm-qm9 does not know' in str(report)
    assert evaluate([hcl], 'edm-geom').status == ('ok',)
    assert evaluate([hcl], EDM).validity is None  # nothing was judged


def test_the_bonds_that_molecules_bring_are_the_default():
    ethanol = embedded('CCO')
    assert evaluate([ethanol, None]).protocol == 'bonds'
    assert evaluate([ethanol, METHANE]).protocol == 'edm-qm9'
    assert evaluate([METHANE]).protocol == evaluate([None]).protocol == 'edm-qm9'


def test_whatever_failed_is_in_the_denominator():
    cut = METHANE.clone()
    cut.finished = False
    for protocol in ('edm-qm9', 'xyz2mol-ctd'):
        report = evaluate([METHANE, cut, None, ValueError('record 3')], protocol, num_requested=5)
        assert report.status == ('ok', 'unfinished', 'missing', 'unreadable', 'missing')
        assert report.validity == 1 / 5 == report.ok


NO_MOLECULE = dict(empty=EMPTY, not_finite=NOT_FINITE, clash=COINCIDENT, missing=None)


@pytest.mark.parametrize('protocol', ['bonds', 'edm-geom', 'edm-qm9', 'geom-revisited', 'geometry', 'strain',
                                      'xyz2mol-ctd', 'xyz2mol-vdw'])
def test_what_is_no_molecule_fails_in_every_protocol_and_spoils_no_figure(protocol):
    overflow = METHANE.clone()
    overflow.pos[1] = torch.inf
    report = evaluate([embedded('CCO'), overflow, *NO_MOLECULE.values()], protocol)
    assert report.status == ('ok', 'not_finite', *NO_MOLECULE) and report.ok == 1 / 6
    values = [figure.value for figure in report.figures.values() if figure.value is not None]
    assert len(values) >= 4 and all(map(math.isfinite, values))


def test_novelty():
    generated = [METHANE, WATER, WATER, HCN, None]
    assert evaluate(generated, reference=[WATER, CO2]).novelty == 2 / 3
    assert evaluate(generated, reference={'[H]O[H]'}).novelty == 2 / 3
    assert evaluate(generated, reference=frozenset()).novelty == 1
    assert evaluate([None], reference=[WATER]).novelty is None
    assert reference_smiles([WATER, CO2, WATER, None]) == {'[H]O[H]', 'O=C=O'}


def test_the_same_figures_of_reference_data_stand_beside():
    report = evaluate([METHANE, None], reference=[WATER, HCN, METHYL])
    assert report.figures['molecule_stability'].reference == 2 / 3 and report.reference == '3 given'
    assert report.figures['size_distance'].value == pytest.approx(1 / 3)  # all have one heavy atom, HCN has two
    again = evaluate([METHANE, None], reference=evaluate([WATER, HCN, METHYL]))
    assert again.figures == report.figures
    with pytest.raises(ValueError, match='reports of different protocols cannot be compared'):
        evaluate([METHANE], EDM, reference=evaluate([METHANE], 'edm-geom'))


@pytest.mark.parametrize('key', bundled_figures()['protocols'])
def test_bundled_figures_are_those_of_the_protocols_as_they_are(key):
    """After a change of rules: python benchmarks/check_metrics.py --write"""
    rules, small = get_protocol(key.split()[0]), evaluate([METHANE], EDM)
    assert rules.key == key
    large = dataclasses.replace(small, sizes={20: 1})
    for report, title in ((small, 'QM9'), (large, 'drug-like molecules')):
        reference = bundled_reference(rules, report)
        assert reference.reference.startswith(title) and reference.key.startswith(rules.key)
        assert 0 < reference.ok <= 1 and sum(reference.sizes.values()) > 900


def test_a_protocol_that_has_not_been_measured_says_so():
    class New(type(get_protocol('bonds'))):
        version = 1000
    reference = bundled_reference(New(), evaluate([METHANE], EDM))
    assert reference.figures == {} and reference.reference.startswith('not measured for bonds v1000: ')


def test_bundled_figures_stand_beside_and_are_those_of_the_sample(real):
    report = evaluate(real, EDM)
    beside = report.figures['molecule_stability'].reference
    low, high = report.intervals['molecule_stability']
    assert low - 0.02 < beside < high + 0.02 and report.reference.startswith('QM9, 10000 molecules')
    assert report.size_distance < 0.15


LAWS = ('edm-qm9', 'edm-geom', 'bonds', 'geom-revisited', 'xyz2mol-vdw', 'geometry')


@settings(deadline=None, max_examples=3)
@given(seed=st.integers(0, 2**31))
@pytest.mark.parametrize('protocol', LAWS)
def test_numbering_pose_and_order_change_no_number(protocol, seed):
    generator = torch.Generator().manual_seed(seed)
    molecules = [data.clone() for data in QM9Sample()[::400]] + [embedded('C[N+](=O)[O-]'), None]
    for data in molecules[:-1]:
        data.formal_charge = data.get('formal_charge', torch.zeros_like(data.z))
    changed = [data if data is None else moved(
        relabeled(data, torch.randperm(data.z.numel(), generator=generator)), generator) for data in molecules]
    shuffle = torch.randperm(len(molecules), generator=generator).tolist()
    a, b = evaluate(molecules, protocol), evaluate([changed[i] for i in shuffle], protocol)
    assert [a.status[i] for i in shuffle] == list(b.status)
    assert [a.smiles[i] for i in shuffle] == list(b.smiles)
    for name, one in a.figures.items():
        assert b.figures[name].value == pytest.approx(one.value, abs=1e-3), name
        assert one.protocol == f'{protocol} v{get_protocol(protocol).version}'


@pytest.mark.parametrize('protocol', LAWS)
def test_what_is_spoilt_is_never_better(protocol):
    """More noise, fewer molecules that are all right; and none where the atoms are anywhere."""
    molecules = [embedded(s) for s in ('CCO', 'c1ccccc1', 'CC(=O)N', 'C1CC1C#N', 'OCC(F)F', 'c1cc[nH]c1')]
    molecules = [data for data in QM9Sample()[::250]] if protocol != 'bonds' else molecules * 5
    generator = torch.Generator().manual_seed(0)
    shares = []
    for sigma in (0.0, 0.15, 0.5, 2.0):
        noisy = []
        for data in molecules:
            data = data.clone()
            data.pos = data.pos + sigma * torch.randn(data.pos.shape, generator=generator, dtype=torch.double)
            noisy.append(data)
        shares.append(evaluate(noisy, protocol).ok)
    assert all(a >= b for a, b in pairwise(shares)) and shares[0] > 0.2 and shares[-1] == 0, shares


@pytest.mark.parametrize('protocol', ['bonds', 'geom-revisited', 'edm-qm9', 'xyz2mol-vdw'])
def test_a_hydrogen_less_is_a_radical_or_worse(protocol):
    whole = embedded('CCO')
    assert evaluate([whole], protocol).status == ('ok',)
    assert evaluate([without(whole, 8)], protocol).status[0] in ('radical', 'valence', 'perception_failed')


def test_a_batch_is_a_list_and_workers_change_nothing(real):
    few = real[:120]
    expected = evaluate(few)
    assert evaluate(Batch.from_data_list(few)) == expected == evaluate(few, workers=2)


def test_real_qm9(shared_data):
    import numpy as np

    with np.load(shared_data / 'qm9' / 'qm9_geom.npz') as file:
        z, ptr, pos = torch.from_numpy(file['z']), file['ptr'].tolist(), torch.from_numpy(file['pos_1e5'] * 1e-5)
    chosen = np.random.default_rng(0).choice(len(ptr) - 1, 6000, replace=False).tolist()
    report = evaluate([Data(z=z[ptr[i]:ptr[i + 1]], pos=pos[ptr[i]:ptr[i + 1]]) for i in chosen], EDM)
    assert round(100 * report.atom_stability, 2) == 99.46
    assert round(100 * report.molecule_stability, 2) == 95.98
    assert round(100 * report.validity, 2) == 98.07


def test_the_bundled_sample_has_the_figures_that_it_always_had():
    report = evaluate(list(QM9Sample()), EDM)
    figures = ('atom_stability', 'molecule_stability', 'validity', 'connected', 'valid_and_connected')
    assert [round(100 * getattr(report, name), 2) for name in figures] == [99.45, 95.87, 98.15, 99.95, 98.13]


def test_bad_arguments():
    with pytest.raises(ValueError, match="'molecules' must hold at least one molecule"):
        evaluate([])
    with pytest.raises(ValueError, match=r"'protocol' must be one of bonds, edm-geom, edm-qm9, .* \(got 'edm'\)"):
        evaluate([WATER], 'edm')
    with pytest.raises(ValueError, match=r"'workers' must be at least 1 \(got 0\)"):
        evaluate([WATER], workers=0)
    with pytest.raises(ValueError, match=r"protocol 'bonds' needs the bonds of the molecules in 'edge_index'"):
        evaluate([WATER], 'bonds')
    with pytest.raises(ValueError, match=r"'num_requested' must be at least the number of molecules, 2 \(got 1\)"):
        evaluate([WATER, WATER], num_requested=1)


def test_without_rdkit(monkeypatch):
    monkeypatch.setitem(sys.modules, 'rdkit', None)
    with pytest.raises(ImportError, match='needs rdkit: pip install rdkit'):
        evaluate([WATER])


def test_a_report_survives_json():
    for protocol in ('edm-qm9', 'geometry'):
        report = evaluate([embedded('CCO'), None], protocol, reference=[embedded('CCN')])
        assert Report.from_json(report.to_json()) == report
        stored = json.loads(report.to_json())
        assert (stored['protocol'], stored['ok'], stored['num_requested']) == (protocol, 0.5, 2)
        assert stored['failures'] == {'ok': 1, 'missing': 1} and stored['versions']['rdkit'].startswith('20')
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.protocol = 'mine'
    with pytest.raises(ValueError, match="'text' must be a report in JSON"):
        Report.from_json('{"protocol": 3}')
    with pytest.raises(AttributeError, match="protocol 'geometry' has no 'validity'"):
        _ = report.validity


def test_what_a_report_prints():
    lines = str(evaluate([METHANE, None])).splitlines()
    assert lines[0].startswith('edm-qm9 v2, torch_geometric_inertial ') and lines[0].endswith(', 2 requested')
    row = next(line for line in lines if line.startswith('molecule stability'))
    assert row.split()[2:7] == ['50.00', '%', '9.45', '–', '90.55']
    assert lines[-2].startswith('reference: QM9') and lines[-1] == 'verdicts: 1 ok, 1 missing'


def test_comparison():
    model, data = evaluate([METHANE, None]), evaluate([METHANE, WATER], reference=frozenset())
    lines = comparison({'model': model, 'real data': data}).splitlines()
    assert lines[1].split() == ['model', 'real', 'data']
    assert next(x for x in lines if x.startswith('molecule st')).split() == ['molecule', 'stability', '50.00', '100.00',
                                                                             '%']
    assert next(x for x in lines if x.startswith('novelty')).split() == ['novelty', '–', '100.00', '%']
    assert lines[-1].split() == ['requested', '2', '2']
    with pytest.raises(ValueError, match=r'cannot be compared \(a: edm-qm9 v2; b: edm-geom v1\)'):
        comparison({'a': model, 'b': evaluate([METHANE], 'edm-geom')})
    with pytest.raises(ValueError, match='cannot be compared'):
        comparison({'a': model, 'b': dataclasses.replace(model, protocol_version=3)})
    perceived = evaluate([METHANE], 'xyz2mol-vdw')
    other = dataclasses.replace(perceived, versions=perceived.versions | {'rdkit': '2023.03.3'})
    with pytest.raises(ValueError, match=r'xyz2mol-vdw v1, rdkit 2023.03.3'):
        comparison({'a': perceived, 'b': other})
    with pytest.raises(ValueError, match="'reports' must hold at least one report"):
        comparison({})
