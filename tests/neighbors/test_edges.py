import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torch_geometric_inertial.neighbors import edges as module
from torch_geometric_inertial.neighbors.edges import Edges, edge_dot, edge_sum


def random_edges(size, seed, share=0.4):
    g = torch.Generator().manual_seed(seed)
    return Edges(*(torch.rand(size, size, generator=g) < share).nonzero().T, size)


def features(size, *shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(size, *shape, generator=g, dtype=torch.float64)


@settings(deadline=None, max_examples=30)
@given(size=st.integers(1, 12), seed=st.integers(0, 10**6), chunk=st.sampled_from([1, 7, 40, 1 << 20]))
def test_they_are_what_the_dense_products_are(size, seed, chunk):
    before, module.CHUNK = module.CHUNK, chunk
    try:
        edges = random_edges(size, seed)
        q, k = features(size, 2, 3, seed=1), features(size, 2, 3, seed=2)
        score = torch.einsum('ihd,jhd->ijh', q, k)
        torch.testing.assert_close(edge_dot(q, k, edges), score[edges.row, edges.col])
        dense = torch.zeros(size, size, 2, dtype=torch.float64)
        dense[edges.row, edges.col] = w = features(edges.row.numel(), 2, seed=3)
        torch.testing.assert_close(edge_sum(w, k, edges), torch.einsum('ijh,jhd->ihd', dense, k))
    finally:
        module.CHUNK = before


def test_derivatives_of_every_order():
    edges, q, k = random_edges(4, 1), features(4, 2, 2, seed=1), features(4, 2, 2, seed=2)
    w = features(edges.row.numel(), 2, seed=3)
    for x in (q, k, w):
        x.requires_grad_()
    for function, args in ((edge_dot, (q, k)), (edge_sum, (w, k))):
        assert torch.autograd.gradcheck(lambda *x, f=function: f(*x, edges), args)
        assert torch.autograd.gradgradcheck(lambda *x, f=function: f(*x, edges), args)


@given(size=st.integers(1, 9), seed=st.integers(0, 10**6))
def test_edges_turned_twice_are_the_edges(size, seed):
    edges = random_edges(size, seed)
    back = edges.transposed
    assert (back.row.diff() >= 0).all() and back.transposed is edges
    assert torch.equal(back.row[back.order], edges.col) and torch.equal(back.col[back.order], edges.row)
