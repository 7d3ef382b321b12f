r"""Attention over all pairs and along edges: the same numbers, in memory that is linear along edges."""
import pytest
import torch
from helpers.predictors import batch_of, close, cloud, run, small

from torch_geometric_inertial.nn.packing import Packing


def test_garbage_in_the_padding_changes_nothing(monkeypatch):
    model, data = small(cutoff=4.0, directional=True, node_rbf_sum=True), batch_of(cloud(5, 1), cloud(2, 2))
    real = Packing.pad

    def results():
        pos = data.pos.clone().requires_grad_()
        scalars, vectors = model(data.z, pos, data.batch, batch_size=2)
        grads = torch.autograd.grad(scalars.sum() + vectors.square().sum(), [pos, *model.parameters()],
                                    allow_unused=True)
        return [scalars, vectors, *(g for g in grads if g is not None)]
    clean = results()
    for garbage in (3, 7):
        monkeypatch.setattr(Packing, 'pad', lambda self, x, fill=0, g=garbage: real(
            self, x, g if x.is_floating_point() else 1))
        for a, b in zip(results(), clean, strict=True):
            close(a, b, 1e-9)


@pytest.mark.parametrize('fields', [
    dict(), dict(directional=True, node_rbf_sum=True, equivariant_init='neighbors'), dict(equ_norm='rms')])
@pytest.mark.parametrize('cutoff', [None, 2.5])
def test_dense_and_edge_paths_agree(cutoff, fields):
    dense, edges = small(cutoff=cutoff, **fields), small(cutoff=cutoff, **fields)
    edges.reader.dense_size = 0
    data = batch_of(cloud(9, 1), cloud(1, 2), cloud(4, 3))
    results = []
    for model in (dense, edges):
        pos = data.pos.clone().requires_grad_()
        scalars, vectors = model(data.z, pos, data.batch)
        first, = torch.autograd.grad(scalars.sum() + vectors.sin().sum(), pos, create_graph=True)
        second, = torch.autograd.grad(first.sin().sum(), pos)
        results.append((scalars, vectors, first, second))
    for a, b in zip(*results, strict=True):
        close(a, b, 1e-9)


def test_given_edges_are_used():
    model, data = small(cutoff=2.5, directional=True), batch_of(cloud(9, 1), cloud(4, 3))
    apart = torch.cdist(data.pos, data.pos)
    near = (apart < 2.5) & (data.batch[:, None] == data.batch[None]) & ~torch.eye(13, dtype=torch.bool)
    edge_index = near.nonzero().T
    edge_index = edge_index[:, torch.randperm(edge_index.size(1), generator=torch.Generator().manual_seed(0))]
    expected = run(model, data)
    for kwargs in (dict(), dict(edge_offset=torch.zeros(edge_index.size(1), 3, dtype=torch.float64))):
        for a, b in zip(run(model, data, edge_index=edge_index, **kwargs), expected, strict=True):
            close(a, b)
    none = run(model, data, edge_index=edge_index[:, :0])
    assert (none[0] - expected[0]).abs().max() > 1e-3


def test_an_offset_edge_is_an_image():
    """Two atoms with an offset edge see each other at the offset distance, from both sides."""
    model = small(cutoff=3.0, equivariant_init='neighbors', directional=True)
    z, away = torch.tensor([6, 8]), torch.tensor([9.0, 0, 0], dtype=torch.float64)
    pos = torch.tensor([[0.0, 0, 0], [1.2, 0.3, 0]], dtype=torch.float64)
    edge_index = torch.tensor([[1, 0], [0, 1]])
    apart = model(z, pos + torch.stack([0 * away, away]), edge_index=edge_index,
                  edge_offset=torch.stack([-away, away]))
    for a, b in zip(apart, model(z, pos), strict=True):
        close(a, b)


def test_memory_of_the_edge_path_is_linear():
    """What is kept for the backward pass, in bytes an atom, does not grow with the system."""
    model, kept = small(cutoff=2.5, dense_size=0, dtype=torch.float32, equivariant_init='neighbors'), []
    for cells in (5, 10):
        grid = torch.cartesian_prod(*[torch.arange(cells).float()] * 3) * 1.8
        total = 0

        def count(x):
            nonlocal total
            total += x.numel() * x.element_size()
            return x
        with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
            model(torch.full((cells ** 3, ), 6), grid)
        kept.append(total / cells ** 3)
    assert kept[1] < 1.35 * kept[0]  # a small cube has more surface


@pytest.mark.parametrize('size', [5, 60])
def test_fused_attention_agrees(size):
    model, data = small(cutoff=6.0), batch_of(cloud(size, 1), cloud(3, 2))
    pos = data.pos.clone().requires_grad_()
    for a, b in zip(model(data.z, data.pos, data.batch), model(data.z, pos, data.batch), strict=True):
        close(a, b)


def kept_for_derivatives(model, size):
    """Numbers that a conservative prediction on a chain of atoms keeps for the gradient in the weights."""
    kept = {}

    def keep(x):
        kept[x.untyped_storage().data_ptr()] = x  # alive, so that no other takes its place
        return x
    along = torch.arange(size, dtype=torch.float64)
    pos = torch.stack([1.5 * along, along % 2, torch.zeros_like(along)], dim=1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        out = model(torch.full((size, ), 6), pos)
    assert out[1].requires_grad
    return sum(x.untyped_storage().nbytes() // x.element_size() for x in kept.values())


@pytest.mark.parametrize('dense_size, order', [(0, 1), (10**6, 2)])
def test_memory_is_linear_in_atoms_along_edges_and_quadratic_for_all_pairs(dense_size, order):
    model = small(vector_head='conservative', cutoff=4.0, equivariant_init='neighbors', dense_size=dense_size)
    a, b, c = (kept_for_derivatives(model, size) for size in (40, 80, 160))
    growth = (c - b) / (b - a)  # 2 if linear, 4 if quadratic, whatever does not grow with atoms
    assert 1.99 < growth < 2.01 if order == 1 else growth > 2.5, growth
