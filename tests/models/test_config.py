import json
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torch_geometric_inertial.models import InertialARConfig, QuetzalConfig
from torch_geometric_inertial.models.config import ModelConfig


@dataclass(frozen=True)
class BoxConfig(ModelConfig):
    sides: tuple[int, ...] = (1, 2)
    extent: tuple[float, float] = (0.0, 1.0)
    names: tuple[str, ...] = ()
    count: int = 1
    num_layers: int = 1
    weight: float = 1.0
    loss: float = 0.0
    cutoff: float | None = None
    color: Literal['red', 'blue'] = 'red'
    title: str = 'box'
    open: bool = False

    def __post_init__(self):
        super().__post_init__()
        self.check(at_least_one=['count'], not_negative=['loss'], positive=['weight', 'cutoff'], probability=['loss'],
                   distinct=['sides'])


BoxConfig.presets = {'big': BoxConfig(count=9)}


def test_presets_and_constructors():
    assert BoxConfig.preset('big', weight=2.0) == BoxConfig(count=9, weight=2.0)
    assert BoxConfig.of(None, dict(count=2)) == BoxConfig(count=2)
    given = BoxConfig(count=3)
    assert BoxConfig.of(given, {}) is given


def test_values_take_the_type_of_the_annotation():
    box = BoxConfig(sides=[3, np.int64(4)], extent=[0, 2], weight=2, cutoff=5, names=['a'])
    assert (box.sides, box.extent, box.weight, box.cutoff, box.names) == ((3, 4), (0.0, 2.0), 2.0, 5.0, ('a', ))
    assert [type(x) for x in (*box.sides, *box.extent, box.weight, box.cutoff)] == [int] * 2 + [float] * 4
    assert BoxConfig(**json.loads(json.dumps(box.to_dict()))) == box


@pytest.mark.parametrize('build, message', [
    (lambda: BoxConfig(count=0), r"'count' must be at least 1 \(got 0\)"),
    (lambda: BoxConfig(loss=-1), r"'loss' must not be negative \(got -1.0\)"),
    (lambda: BoxConfig(loss=1.0), r"'loss' must be in \[0, 1\) \(got 1.0\)"),
    (lambda: BoxConfig(weight=0), r"'weight' must be positive \(got 0.0\)"),
    (lambda: BoxConfig(cutoff=-1), r"'cutoff' must be positive \(got -1.0\)"),
    (lambda: BoxConfig(sides=(2, 2)), r"'sides' must be distinct \(got \(2, 2\)\)"),
    (lambda: BoxConfig.preset('small'), r"'preset' must be one of big \(got 'small'\)"),
    (lambda: BoxConfig.preset('big', size=1), r"'size' is not a field of BoxConfig"),
    (lambda: BoxConfig.of(BoxConfig(), dict(count=1)), r"give 'config' or its fields, not both \(got \['count'\]\)"),
    (lambda: BoxConfig.of(QuetzalConfig(), {}), r"'config' must be a BoxConfig \(got QuetzalConfig\)"),
    (lambda: BoxConfig.of(None, dict(size=1)), r"'size' is not a field of BoxConfig"),
], ids=range(11))
def test_errors(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize('field, value, rule', [
    ('count', 'abc', 'an integer'), ('count', 2.0, 'an integer'), ('count', True, 'an integer'),
    ('count', None, 'an integer'), ('count', [1], 'an integer'),
    ('count', 2 ** 62, 'at most 1048576'), ('count', -2 ** 62, 'at most 1048576 in size'),
    ('num_layers', 2 ** 31, 'at most 1000'),
    ('weight', 'abc', 'a finite number'), ('weight', '1.0', 'a finite number'), ('weight', None, 'a finite number'),
    ('weight', float('nan'), 'a finite number'), ('weight', 10 ** 400, 'a finite number'),
    ('weight', False, 'a finite number'), ('cutoff', 'far', 'a finite number, or None'),
    ('cutoff', float('inf'), 'a finite number, or None'),
    ('title', 1, 'a string'), ('title', 'x' * 100_000, 'a string'), ('open', 1, 'true or false'),
    ('color', 'green', 'one of red, blue'), ('color', ['red'], 'one of red, blue'),
    ('sides', 'abc', 'a tuple of integers'), ('sides', 3, 'a tuple of integers'),
    ('sides', None, 'a tuple of integers'),
    ('sides', [1] * 100_000, 'a tuple of integers'),
    ('sides', ['a'], 'a tuple of integers: each must be an integer'),
    ('sides', [2 ** 40], 'a tuple of integers: each must be at most 1048576'),
    ('extent', [1.0], 'a tuple of 2 finite numbers'), ('names', [1], 'a tuple of strings: each must be a string'),
], ids=lambda x: repr(x)[:20])
def test_wrong_types_and_absurd_sizes_are_refused_by_name(field, value, rule):
    with pytest.raises(ValueError, match=rf"^'{field}' must be {rule} \(got .{{1,60}}\)$"):
        BoxConfig(**{field: value})


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=3), x, max_size=2),
                    max_leaves=4)


@pytest.mark.parametrize('config', [InertialARConfig, QuetzalConfig], ids=lambda c: c.__name__)
@given(data=st.data())
def test_any_json_value_is_taken_or_refused_as_a_value_error(config, data):
    name = data.draw(st.sampled_from(sorted(config().to_dict())))
    try:
        config(**{name: data.draw(JSON)})
    except ValueError as error:
        assert str(error).startswith("'")


def test_an_annotation_that_nothing_checks_is_our_own_bug():
    @dataclass(frozen=True)
    class Odd(ModelConfig):
        where: dict = None  # type: ignore[assignment]

    with pytest.raises(TypeError, match='cannot be annotated'):
        Odd()
