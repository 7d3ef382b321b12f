import pytest

from torch_geometric_inertial import InertialAR
from torch_geometric_inertial.metrics import evaluate
from torch_geometric_inertial.metrics.samples import SampleMetrics

pytest.importorskip('rdkit')


def test_figures_are_those_of_the_molecules_that_the_model_writes():
    model = InertialAR.from_pretrained('qm9')
    found = SampleMetrics(40, seed=3)(model, 7)
    report = evaluate(model.generate(40, seed=3), 'bonds')
    assert found['sample_ok'] == report.ok > 0.8 and found['sample_validity'] == report.validity
    assert set(found) == {'sample_ok', 'sample_validity', 'sample_connected', 'sample_uniqueness'}
    stable = SampleMetrics(40, 'edm-qm9', seed=3)(model)
    assert stable['sample_molecule_stability'] == evaluate(model.generate(40, seed=3), 'edm-qm9').molecule_stability


@pytest.mark.parametrize('arguments, message', [
    ((0, ), r"'num_samples' must be at least 1 \(got 0\)"),
    ((1, 'fame'), "'protocol' must be one of bonds, "),
])
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        SampleMetrics(*arguments)
