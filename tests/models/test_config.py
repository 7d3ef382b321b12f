from dataclasses import dataclass

import pytest

from torch_geometric_inertial.models.config import ModelConfig


@dataclass(frozen=True)
class BoxConfig(ModelConfig):
    sides: tuple = (1, 2)
    count: int = 1
    weight: float = 1.0
    loss: float = 0.0

    def __post_init__(self):
        self.as_tuples('sides')
        self.check(at_least_one=['count'], not_negative=['loss'], positive=['weight'], share=['loss'])


BoxConfig.presets = {'big': BoxConfig(count=9)}


def test_presets_and_constructors():
    assert BoxConfig.preset('big', weight=2.0) == BoxConfig(count=9, weight=2.0)
    assert BoxConfig.of(None, dict(count=2)) == BoxConfig(count=2)
    given = BoxConfig(count=3)
    assert BoxConfig.of(given, {}) is given
    assert BoxConfig(sides=[3, 4]).to_dict() == dict(sides=(3, 4), count=1, weight=1.0, loss=0.0)


@pytest.mark.parametrize('build, message', [
    (lambda: BoxConfig(count=0), r"'count' must be at least 1 \(got 0\)"),
    (lambda: BoxConfig(loss=-1), r"'loss' must not be negative \(got -1\)"),
    (lambda: BoxConfig(loss=1.0), r"'loss' must be in \[0, 1\) \(got 1.0\)"),
    (lambda: BoxConfig(weight=float('nan')), r"'weight' must be positive \(got nan\)"),
    (lambda: BoxConfig.preset('small'), r"'preset' must be one of big \(got 'small'\)"),
    (lambda: BoxConfig.of(BoxConfig(), dict(count=1)), r"give 'config' or its fields, not both \(got \['count'\]\)"),
    (lambda: BoxConfig.of(None, dict(size=1)), r"'size' is not a field of BoxConfig"),
], ids=range(7))
def test_errors(build, message):
    with pytest.raises(ValueError, match=message):
        build()
