r"""Molecules with fields of any shape, type and value: a transform or a metric gives a result, or a ``ValueError``.

``INERTIAL_FUZZ_SECONDS=600 pytest tests/fuzz`` goes on for so long, per kind.
"""
import math
import random
import time
import warnings

import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.metrics import evaluate
from torch_geometric_inertial.transforms import CanonicalOrder, FunctionalGroups, InertialFrame

NUMBERS = [0, 1, -1, 6, 9, 118, 119, 10**6, float('nan'), float('inf'), 1e10, 1e30, 1e-30]
FIELDS = ('z', 'pos', 'edge_index', 'edge_attr', 'formal_charge')


def mutated(data: Data, rng: random.Random) -> Data:
    data = data.clone()
    for _ in range(rng.randint(1, 3)):
        name = rng.choice(FIELDS)
        value, kind = data.get(name), rng.randrange(8)
        if not torch.is_tensor(value):
            continue
        if kind == 0:
            data[name] = rng.choice([None, 3, 'C', [], value.tolist()])
        elif kind == 1:
            data[name] = value.to(rng.choice([torch.float64, torch.float16, torch.int32, torch.bool, torch.uint8]))
        elif kind == 2:
            data[name] = value[:rng.randint(0, len(value))]
        elif kind == 3:
            data[name] = value.unsqueeze(rng.randrange(value.dim() + 1))
        elif kind == 4:
            data[name] = value.flip(0)
        elif value.numel() > 0:
            number = rng.choice(NUMBERS)
            if not value.is_floating_point():
                number = int(number) if math.isfinite(number) else 0
                low, high = (0, 1) if value.dtype == torch.bool else (torch.iinfo(value.dtype).min,
                                                                      torch.iinfo(value.dtype).max)
                number = min(max(number, low), high)
            data[name] = value.clone()
            data[name].view(-1)[rng.randrange(value.numel())] = number
    return data


USES = {
    'frame': InertialFrame(),
    'smiles order': CanonicalOrder(),
    'heavy_first order': CanonicalOrder(order='heavy_first'),
    'rank order': CanonicalOrder(order='rank'),
    'groups': FunctionalGroups(),
    'bonds': lambda data: evaluate([data], 'bonds'),
    'edm-qm9': lambda data: evaluate([data], 'edm-qm9'),
}


@pytest.mark.parametrize('use', USES)
def test_a_broken_molecule_is_used_or_named(use, cases):
    molecules = [QM9Sample()[i] for i in range(20)]
    for num, rng in enumerate(cases(150)):
        data = mutated(rng.choice(molecules), rng)
        began = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            try:
                found = USES[use](data)
            except ValueError as error:
                assert len(str(error)) < 2000, num
            except Exception as error:
                raise AssertionError(f'case {num}: {type(error).__name__}: {error}') from error
            else:
                if use == 'frame':
                    assert bool(found.pos.isfinite().all()), num
                    torch.testing.assert_close(found.frame[0].double().det().abs(), torch.ones((), dtype=torch.float64),
                                               atol=1e-2, rtol=0)  # in float16
                elif use.endswith('order'):
                    assert sorted(found.perm.tolist()) == list(range(found.z.numel())), num
        assert time.process_time() - began < 2, num
