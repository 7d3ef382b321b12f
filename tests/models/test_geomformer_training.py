r"""GeoMFormer in training: low precision, compilers, and that it learns."""
import pytest
import torch
from helpers.predictors import MOLECULES, batch_of, close, cloud, run, small
from torch._dynamo.utils import counters

from torch_geometric_inertial import GeoMFormer


@pytest.mark.parametrize('precision', ['autocast', 'gradients'])
def test_bfloat16_is_finite_and_near(precision):
    model, data = small(dtype=torch.float32, vector_head='conservative'), batch_of(cloud(6, 1), MOLECULES['C6H6'])
    data.pos = data.pos.float()
    exact = run(model, data)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        rough = run(model, data)
        if precision == 'gradients':
            (rough[0].sum() + rough[1].square().sum()).backward()
            assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    for a, b in zip(rough, exact, strict=True):
        close(a, b, 0.15)


def test_training_under_autocast_stays_finite_and_learns():
    model, data = small(dtype=torch.float32, vector_head='conservative').train(), batch_of(cloud(5, 1), cloud(5, 2))
    data.pos, optimizer, losses = data.pos.float(), torch.optim.AdamW(model.parameters(), lr=3e-3), []
    target = torch.randn(data.pos.shape, generator=torch.Generator().manual_seed(0))
    for _ in range(30):
        with torch.autocast('cpu', dtype=torch.bfloat16):
            energy, force = run(model, data)
            loss = energy.square().mean() + (force - target).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert torch.tensor(losses).isfinite().all() and all(p.isfinite().all() for p in model.parameters())
    assert min(losses[-5:]) < 0.7 * losses[0]


def test_it_learns_eight_samples():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GeoMFormer(channels=16, heads=2, num_layers=2, num_kernels=8, radius=(0.1, 6.0)).double()
    batch = batch_of(*(cloud(4, k) for k in range(8)))
    target = torch.randn(8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=80, line_search_fn='strong_wolfe', tolerance_grad=1e-5)

    def loss():
        optimizer.zero_grad()
        error = (model(batch.z, batch.pos, batch.batch, validate=False)[0] - target).square().mean()
        error.backward()
        return error
    optimizer.step(loss)
    assert float(loss().detach()) < 1e-6


def test_compiled_with_varying_sizes():
    torch._dynamo.reset()
    model = small(dtype=torch.float32, num_layers=1)
    compiled = torch.compile(model, backend='eager', dynamic=True)
    for sizes in ((3, 5), (2, 6, 7)):
        data = batch_of(*(cloud(n, n, torch.float32) for n in sizes))
        for a, b in zip(run(compiled, data), run(model, data), strict=True):
            close(a, b, 1e-5)
    torch._dynamo.reset()


@pytest.mark.slow
def test_compiled_training_follows_sizes_without_compiling_again():
    torch._dynamo.reset()
    counters.clear()
    model = small(dtype=torch.float32, num_layers=1).train()
    compiled = torch.compile(model, backend='aot_eager', dynamic=True)

    def outputs_and_gradients(network, data):
        scalar, vector = run(network, data)
        (scalar.sum() + vector.square().sum()).backward()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        model.zero_grad()
        return scalar, vector, gradients
    for sizes in ((3, 5), (4, 6, 2), (2, 9, 7, 3)):
        data = batch_of(*(cloud(n, n, torch.float32) for n in sizes))
        for a, b in zip(outputs_and_gradients(compiled, data), outputs_and_gradients(model, data), strict=True):
            close(a, b, 1e-5)
    assert counters['stats']['unique_graphs'] == 2  # the first sizes, then all
    torch._dynamo.reset()
