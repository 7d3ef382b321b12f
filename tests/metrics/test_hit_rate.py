import json

import pytest
import torch
from torch_geometric.data import Batch, Data

from torch_geometric_inertial.chem.functional_groups import QM9_GROUPS
from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.metrics import evaluate, hit_rate
from torch_geometric_inertial.testing import degenerate_molecules, random_motion
from torch_geometric_inertial.transforms import FunctionalGroups

pytest.importorskip('rdkit')

NAMES = list(QM9_GROUPS)


@pytest.fixture(scope='module')
def real():
    """200 molecules, and the groups that their stored bonds make."""
    groups = torch.cat([FunctionalGroups()(data).groups for data in QM9Sample()[:200]])
    return [Data(z=data.z, pos=data.pos) for data in QM9Sample()[:200]], groups


def test_real_molecules_hit_their_own_groups_and_miss_those_of_others(real):
    molecules, groups = real
    own = hit_rate(molecules, groups)
    assert own.hit_rate == own.exact_rate == 1 - own.no_molecule > 0.93
    others = hit_rate(molecules, groups.roll(1, 0))
    assert others.exact_rate < others.hit_rate < 0.5
    assert own.report == evaluate(molecules, 'edm-qm9')


def test_rates_are_counts(real):
    molecules, groups = real
    shuffled = groups[torch.randperm(200, generator=torch.Generator().manual_seed(0))]
    shuffled[:, 0] = 1  # a wish for nothing would not be one
    result = hit_rate(molecules, shuffled)
    singles = [hit_rate([data], row) for data, row in zip(molecules, shuffled, strict=True)]
    for i, name in enumerate(NAMES):
        assert result.asked[name] == int(shuffled[:, i].sum())
        assert result.hits[name] == sum(one.hits[name] for one in singles)
    assert sum(one.hit_rate for one in singles) == pytest.approx(200 * result.hit_rate)
    assert all(result.intervals[name][0] <= rate <= result.intervals[name][1] for name, rate in result.rates.items())


def test_motion_and_renumbering_change_nothing_and_a_batch_is_its_molecules(real):
    molecules, groups = real[0][:30], real[1][:30]
    expected = hit_rate(molecules, groups)
    moved = hit_rate([random_motion(data, i) for i, data in enumerate(molecules)], groups)
    assert (moved.hits, moved.hit_rate, moved.exact_rate) == (expected.hits, expected.hit_rate, expected.exact_rate)
    assert hit_rate(Batch.from_data_list(molecules), groups) == expected


def test_failures_are_misses():
    methane = degenerate_molecules()['CH4']
    carbon = torch.tensor([int(name == 'carbon') for name in NAMES])
    far = Data(z=methane.z.repeat(2), pos=torch.cat([methane.pos, methane.pos + 50]))
    spoilt = Data(z=methane.z, pos=methane.pos * float('nan'))
    unfinished = Data(z=methane.z, pos=methane.pos, finished=False)
    result = hit_rate([methane, None, far, spoilt, unfinished], carbon)
    assert result.hit_rate == 0.2 and result.hits['carbon'] == 1 and result.asked['carbon'] == 5
    assert result.no_molecule == pytest.approx(0.8)
    assert result.report.num_requested == 5


def test_one_more_group_is_a_hit_but_not_exact(real):
    molecules, _ = real
    carbon = torch.tensor([int(name == 'carbon') for name in NAMES])
    result = hit_rate(molecules, carbon)
    assert result.hit_rate > 0.9 > 0.2 > result.exact_rate
    assert list(result.rates) == ['carbon']


def test_the_table_and_json(real):
    result = hit_rate(real[0][:20], real[1][:20])
    text = str(result)
    assert 'all requested groups' in text and 'molecule stability' in text and 'bonds by rdkit-vdw' in text
    stored = json.loads(result.to_json())
    assert stored['hits'] == result.hits and stored['report']['num_requested'] == 20


@pytest.mark.parametrize('arguments, message', [
    (dict(groups=torch.ones(3, 20)), r"'groups' must be \[20\] or \[2, 20\] \(got \(3, 20\)\)"),
    (dict(groups=torch.ones(5)), r"'groups' must be \[20\] or \[2, 20\] \(got \(5,\)\)"),
    (dict(groups=torch.full((20, ), 2)), r"'groups' must be 0 or 1 \(got 2\)"),
    (dict(groups=torch.zeros(20)), r"'groups' must ask for at least one group \(got none\)"),
    (dict(groups=torch.ones(20), vocabulary='qm8'), r"'vocabulary' must be one of"),
    (dict(groups=torch.ones(1), vocabulary={'odd': '[O'}), r"the SMARTS of group 'odd' does not parse"),
    (dict(groups=torch.ones(20), protocol='own'), r"'protocol' must be one of"),
], ids=range(7))
def test_errors(real, arguments, message):
    with pytest.raises(ValueError, match=message):
        hit_rate(real[0][:2], **arguments)
