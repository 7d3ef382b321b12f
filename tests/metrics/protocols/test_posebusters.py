r"""The checks of PoseBusters."""
import pytest
import torch
from helpers.embedded import embedded, without
from helpers.molecules_by_hand import METHANE

from torch_geometric_inertial.metrics import evaluate
from torch_geometric_inertial.metrics.protocols import posebusters as protocol

pytest.importorskip('posebusters')


def test_one_bad_molecule_loses_none_and_energy_stands_apart():
    good = embedded('c1ccccc1CO')
    bent = good.clone()
    ring = good.edge_index[1][good.edge_index[0] == 0][:1]
    bent.pos[ring] += 0.9 * torch.tensor([0.3, 0.4, 0.86])
    report = evaluate([good, bent, None, without(good, 8), METHANE], 'posebusters', workers=2)
    assert report.status[0] == 'ok' and report.status[1] in ('implausible', 'clash')
    assert report.status[2:] == ('missing', 'radical', 'perception_failed')
    assert report.ok == 1 / 5 and report.figures['sanitization'].of == 'checked'
    assert report.values['internal_energy'][0] is True and report.values['internal_energy'][3] is None
    assert report.with_energy == 1 / 5
    assert report.versions['posebusters'] in report.key


def test_what_the_energy_check_says_of_methane_does_not_count():
    report = evaluate([embedded('C')], 'posebusters')
    assert report.status == ('ok',) and report.values['internal_energy'][0] in (False, None)
    assert report.with_energy == 0


def test_time_limit(monkeypatch):
    monkeypatch.setattr(protocol.PoseBusters, 'seconds', 0.0)
    monkeypatch.setattr(protocol.PoseBusters, 'energy_seconds', 0.0)
    assert evaluate([embedded('C')], 'posebusters').status == ('timeout',)
