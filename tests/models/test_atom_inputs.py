r"""What a predictor refuses to read, and why."""
import math

import pytest
import torch
from helpers.predictors import MOLECULES, small

WATER = MOLECULES['H2O']


def call(fields=None, z=WATER.z, pos=WATER.pos, **kwargs):
    return small(**(fields or {}))(z, pos, **kwargs)


@pytest.mark.parametrize('bad, message', [
    (lambda: call(z=torch.tensor([8, 1, 3])), r"'z' must hold elements of \[1, 6, 7, 8, 9, 17, 35\] \(got \[3\]\)"),
    (lambda: call(z=torch.tensor([8, 1, -200])), r"'z' must hold elements of .* \(got \[-200\]\)"),
    (lambda: call(z=torch.tensor([8, 1])), r"'z' must be integers \[3\] \(got \[2\], torch.int64\)"),
    (lambda: call(z=torch.ones(3)), r"'z' must be integers \[3\] \(got \[3\], torch.float32\)"),
    (lambda: call(z=torch.ones(3).bool()), r"'z' must be integers \[3\] \(got \[3\], torch.bool\)"),
    (lambda: call(z=torch.tensor([8, 0, 1])), r"'z' must hold elements of .* \(got \[0\]\)"),
    (lambda: call(pos=WATER.pos.float()), r"'pos' must be torch.float64, as the model is \(got torch.float32\); model"),
    (lambda: call(pos=WATER.pos * torch.tensor([[1], [1e10], [1]])),
     r"'pos' must be within 100000 Å of the centroid of the molecule \(got [0-9.e+]* Å\)"),
    (lambda: call(dict(cutoff=3.0, dense_size=0), pos=WATER.pos * 1e10), r"'pos' must be within 100000 Å"),
    (lambda: call(pos=torch.ones(3, 2)), r"'pos' must be floating point \[N, 3\] \(got \[3, 2\], torch.float32\)"),
    (lambda: call(pos=torch.ones(3, 3).long()), r"'pos' must be floating point \[N, 3\]"),
    (lambda: call(z=WATER.z[:0], pos=WATER.pos[:0]), r"there must be at least one atom \(got none\)"),
    (lambda: call(pos=WATER.pos * math.nan), r"'pos' must be finite \(got 9 entries that are not\)"),
    (lambda: call(pos=WATER.pos[[0, 1, 1]]), r"'pos' must not hold two atoms of one molecule closer than 0.4 Å "
                                             r"\(got 0 Å\)"),
    (lambda: call(dict(cutoff=3.0, dense_size=0), pos=WATER.pos[[0, 1, 1]]), r"two atoms of one molecule closer"),
    (lambda: call(z=torch.tensor([1, 1]), pos=torch.tensor([[0, 0, 0], [0.39, 0, 0]]).double()),
     r"two atoms of one molecule closer than 0.4 Å \(got 0.39 Å\)"),
    (lambda: call(dict(elements=(-1, 1)), z=torch.tensor([1, -1]), pos=5e-5 * torch.eye(3)[:2].double()),
     r"two atoms of one molecule closer than 0.0001 Å \(got"),
    (lambda: call(batch=torch.tensor([0, 1, 0])), r"'batch' must be sorted and not negative: .* \(got \[0, 1, 0\]\)"),
    (lambda: call(batch=torch.tensor([-1, 0, 0])), r"'batch' must be sorted and not negative"),
    (lambda: call(batch=torch.tensor([0, 0])), r"'batch' must be int64 \[3\] \(got \[2\], torch.int64\)"),
    (lambda: call(dict(vector_head='none'), vectors=True),
     r"this GeoMFormer predicts scalars only \('vector_head' is 'none'\): it has no vectors to give"),
    (lambda: call(vel=WATER.pos), r"'vel' must not be given: this GeoMFormer reads no velocities"),
    (lambda: call(dict(velocity='merged')), r"'vel' must be given: this GeoMFormer reads velocities"),
    (lambda: call(dict(velocity='merged'), vel=WATER.pos[:2]), r"'vel' must be \[3, 3\], like 'pos' \(got \[2, 3\]\)"),
    (lambda: call(dict(velocity='merged'), vel=WATER.pos * math.inf), r"'vel' must be finite \(got"),
    (lambda: call(charge=torch.tensor([1])), r"'charge' must not be given: this GeoMFormer reads no charges"),
    (lambda: call(dict(spins=(1, 2))), r"'spin' must be given: this GeoMFormer reads spins"),
    (lambda: call(dict(spins=(1, 2)), spin=torch.tensor(1)), r"'spin' must be integers \[1\] \(got \[\], torch.int"),
    (lambda: call(dict(charges=(0, 1)), charge=torch.zeros(1)), r"'charge' must be integers \[1\] \(got \[1\], "),
    (lambda: call(dict(charges=(0, 1)), charge=torch.tensor([-1])), r"'charge' must be of \[0, 1\] \(got \[-1\]\)"),
    (lambda: call(tags=torch.tensor([0, 1, 2])), r"'tags' must not be given: this GeoMFormer reads no tags"),
    (lambda: call(dict(num_tags=3)), r"'tags' must be given: this GeoMFormer reads tags"),
    (lambda: call(dict(num_tags=3), tags=torch.tensor([0, 1])), r"'tags' must be integers \[3\] \(got \[2\], torch"),
    (lambda: call(dict(num_tags=3), tags=torch.tensor([0, 1, 3])), r"'tags' must be of 0 to 2 \(got \[0, 1, 3\]\)"),
    (lambda: call(edge_index=torch.zeros(3, 2).long()), r"'edge_index' must be integers \[2, E\] \(got \[3, 2\]"),
    (lambda: call(edge_index=torch.tensor([[0], [3]])), r"'edge_index' must name atoms 0 to 2 \(got 0 to 3\)"),
    (lambda: call(edge_index=torch.tensor([[0], [2]]), batch=torch.tensor([0, 0, 1])),
     r"'edge_index' must join atoms of one molecule"),
    (lambda: call(edge_offset=torch.zeros(1, 3)), r"'edge_offset' must be \[E, 3\] with an 'edge_index'"),
    (lambda: small().fit_references(WATER.z, torch.zeros(3).long(), torch.ones(2)),
     r"'scalars' must be \[1, 1\] \(got \[2\]\)"),
    (lambda: small().fit_references(WATER.z + 2, torch.zeros(3).long(), torch.ones(1)),
     r"'z' must hold elements of .* \(got \[3, 10\]\)"),
], ids=range(40))
def test_bad_input(bad, message):
    with pytest.raises(ValueError, match=message):
        bad()


def test_distances_that_are_just_allowed():
    """Short but no error: bonds under compression, and particles of the n-body task in a close encounter."""
    apart = torch.tensor([[0, 0, 0], [0.41, 0, 0]], dtype=torch.float64)
    assert all(x.isfinite().all() for x in call(z=torch.tensor([1, 1]), pos=apart))
    near = call(dict(elements=(-1, 1)), z=torch.tensor([1, -1]), pos=0.01 * apart)
    assert all(x.isfinite().all() for x in near)
