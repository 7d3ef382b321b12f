"""Fields of a molecule that are no tensors, or of other sizes, are named by whichever transform reads them."""
import pytest
import torch

from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.transforms import CanonicalOrder, FunctionalGroups, InertialFrame


@pytest.mark.parametrize('transform', [InertialFrame(), CanonicalOrder(), FunctionalGroups()],
                         ids=lambda transform: type(transform).__name__)
@pytest.mark.parametrize('name, change, message', [
    ('z', lambda x: 3, r"needs tensors 'z' \[N\] and 'pos' \[N, 3\] \(got int and \["),
    ('z', lambda x: x[:-1], r"'z' must hold one atomic number for each of the \d+ positions \(got "),
    ('edge_index', lambda x: x.tolist(), r"needs 'edge_index' as a tensor of whole numbers \[2, E\] \(got list\)"),
    ('edge_index', lambda x: x.bool(), r"needs 'edge_index' as a tensor of whole numbers \[2, E\] \(got \["),
    ('edge_attr', lambda x: x[:-1], r"needs 'edge_attr' as a tensor \[\d+, ...\] \(got \["),
], ids=['z is a number', 'z is short', 'edges are a list', 'edges are bool', 'orders are short'])
def test_malformed_fields_are_named(transform, name, change, message):
    data = QM9Sample()[3]
    data[name] = change(data[name])
    with pytest.raises(ValueError, match=message):
        transform(data)


@pytest.mark.parametrize('far', [2e5, 1e6, 1e10, 1e30])
def test_an_atom_that_is_nowhere_is_refused(far):
    data = QM9Sample()[3]
    data.pos[2, 1] = far
    with pytest.raises(ValueError,
                       match=r"'pos' must (be|lie) within 1.* Å of the (molecule's first atom|origin) \(got "):
        InertialFrame()(data)
    data = QM9Sample()[3]
    data.pos += torch.tensor([1e5, 0, 0])  # where the whole molecule is does not matter
    assert bool(InertialFrame()(data).pos.isfinite().all())
