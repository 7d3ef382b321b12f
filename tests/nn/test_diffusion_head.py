import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_geometric_inertial.nn import DiffusionHead, FourierFeatures, RandomFourierFeatures
from torch_geometric_inertial.nn.denoising_mlp import MODULATIONS, DenoisingMLP
from torch_geometric_inertial.nn.denoising_steps import DenoisingSteps
from torch_geometric_inertial.nn.flow_solvers import SOLVERS, noise_levels
from torch_geometric_inertial.nn.pair_field import NeighborContext

sigmas = st.floats(1e-3, 80)


KINDS = {
    **{name: lambda name=name: dict(modulation=name) for name in MODULATIONS},
    'quetzal': lambda: dict(modulation='each', coord_fourier=RandomFourierFeatures(64, 1.0),
                            noise_fourier=RandomFourierFeatures(16, 1.0), noise_mlp=torch.nn.Identity()),
    'released': lambda: dict(modulation='each', coord_fourier=FourierFeatures(64, 0.1, 8.0), coord_layers=2),
}


def head(sigma_data=0.8, seed=None, kind='additive', **kwargs):
    """A head as it starts, or with :obj:`seed` one whose network says something."""
    with torch.random.fork_rng():
        torch.manual_seed(0 if seed is None else seed)
        out = DiffusionHead(16, 6, 2, sigma_data=sigma_data, **KINDS[kind](), **kwargs)
        if seed is not None:
            for p in out.network.parameters():
                torch.nn.init.normal_(p, std=0.03)
    return out.eval()


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize('kind', KINDS)
@given(sigma=sigmas)
def test_a_head_that_has_learned_nothing_is_the_skip_connection(kind, sigma):
    model, x = head(kind=kind), normal(5, 3)
    c_skip = 0.64 / (sigma**2 + 0.64)
    denoised = model.denoise(x, torch.full((5, 1), sigma), normal(5, 16, seed=1))
    torch.testing.assert_close(denoised, c_skip * x, atol=1e-6, rtol=1e-5)


@given(sigma=sigmas, sigma_data=st.floats(0.1, 5))
def test_preconditioning(sigma, sigma_data):
    model = head()
    model.sigma_data = sigma_data
    s = torch.tensor(sigma, dtype=torch.float64)
    c_skip, c_out, c_in = model.precondition(s)
    one = torch.ones((), dtype=torch.float64)
    torch.testing.assert_close(c_in**2 * (s**2 + sigma_data**2), one)  # the network's input has unit variance,
    target = ((1 - c_skip)**2 * sigma_data**2 + c_skip**2 * s**2) / c_out**2
    torch.testing.assert_close(target, one)  # and so has its target,
    torch.testing.assert_close(c_out, s * sigma_data * c_in)  # (Karras et al. 2022, Table 1)
    slope = -2 * (1 - c_skip) * sigma_data**2 + 2 * c_skip * s**2
    torch.testing.assert_close(slope, 0 * one, atol=1e-9, rtol=0)  # with the c_skip that amplifies errors least


def test_the_limits_of_the_preconditioning():
    model = head()
    c_skip, c_out, _ = model.precondition(torch.tensor([1e-6, 1e6]))
    torch.testing.assert_close(c_skip, torch.tensor([1.0, 0.0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(c_out, torch.tensor([0.0, 0.8]), atol=1e-5, rtol=0)


@pytest.mark.parametrize('sigma_data', [0.5, 1.4])
def test_the_loss_starts_at_its_expectation(sigma_data):
    """E|target|^2 = 1 a component for data of standard deviation sigma_data, at every noise level."""
    y = sigma_data * normal(4000, 3)
    loss = head(sigma_data).loss(y, normal(4000, 6), 8, torch.Generator().manual_seed(1))
    assert loss.shape == (4000, )
    assert loss.mean().item() == pytest.approx(1, abs=0.03)


def test_the_loss_at_zero_is_the_share_of_noise():
    """For y = 0 the target is -c_skip sigma n / c_out, of variance sigma_d^2 / (sigma^2 + sigma_d^2)."""
    model = head(noise_mean=-1.2, noise_std=1.2)
    loss = model.loss(torch.zeros(4000, 3), normal(4000, 6), 8, torch.Generator().manual_seed(1))
    log_sigma = torch.distributions.Normal(-1.2, 1.2).icdf(torch.linspace(1e-4, 1 - 1e-4, 10001, dtype=torch.float64))
    expected = (0.64 / (log_sigma.exp()**2 + 0.64)).mean()
    assert loss.mean().item() == pytest.approx(float(expected), abs=0.02)


def test_the_loss_is_the_weighted_denoising_error():
    model, y, cond = head(seed=3), normal(6, 3), normal(6, 6, seed=1)
    loss = model.loss(y, cond, 5, torch.Generator().manual_seed(2))
    g = torch.Generator().manual_seed(2)
    share = (torch.arange(5).view(-1, 1, 1) + torch.rand(5, 6, 1, generator=g)) / 5  # one draw from each fifth
    sigma = torch.distributions.Normal(model.noise_mean, model.noise_std).icdf(share).exp()
    x = y + sigma * torch.randn(5, 6, 3, generator=g)
    weight = (sigma**2 + 0.64) / (sigma * 0.8)**2  # Karras et al. (2022), Table 1
    error = weight * (model.denoise(x, sigma, model.cond_linear(cond)) - y).square()
    torch.testing.assert_close(loss, error.mean((0, 2)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('kind', KINDS)
def test_draws_of_a_token_see_its_condition_and_their_own_noise_level(kind):
    model = head(seed=3, kind=kind)
    u, level, cond = normal(4, 6, 3), normal(4, 6, 1, seed=1), normal(6, 16, seed=2)
    out = model.network(u, level, cond, u, None)
    alone = [model.network(u[i, j:j + 1], level[i, j:j + 1], cond[j:j + 1], u[i, j:j + 1], None)
             for i in range(4) for j in range(6)]
    torch.testing.assert_close(out, torch.cat(alone).view(4, 6, 3), atol=1e-5, rtol=1e-5)
    for other in (model.network(u, level + 0.3, cond, u, None), model.network(u, level, cond + 0.3, u, None)):
        assert ((out - other).abs() > 1e-6).any(-1).all()


def test_an_additive_modulation_is_a_sum():
    model = head(seed=3, kind='additive').network
    a, b = normal(1, 16), normal(1, 16, seed=1)
    c, d = normal(1, 80, seed=2), normal(1, 80, seed=3)
    for ac, ad, bc, bd in zip(*(model.modulate(x, y) for x in (a, b) for y in (c, d)), strict=True):
        torch.testing.assert_close(ac - bc, ad - bd, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('kind', KINDS)
def test_every_parameter_learns_also_under_autocast(kind):
    gradients = []
    for bf16 in (False, True):
        model = head(seed=3, kind=kind)
        with torch.autocast('cpu', torch.bfloat16, enabled=bf16):
            loss = model.loss(normal(64, 3), normal(64, 6, seed=1), 4, torch.Generator().manual_seed(0)).mean()
        loss.backward()
        assert all(p.grad.dtype == torch.float32 and p.grad.abs().max() > 0 for p in model.parameters())
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert torch.cosine_similarity(*gradients, dim=0) > 0.99


@pytest.mark.parametrize('channels, cond_channels, parameters', [
    (512, 512, 9_464_323), (1024, 512, 35_705_859), (1536, 512, 78_724_611),
    (512, 640, 9_529_859), (1024, 640, 35_836_931), (1536, 640, 78_921_219),
    (512, 768, 9_595_395), (1024, 768, 35_968_003), (1536, 768, 79_117_827),
])
def test_the_head_of_quetzal_has_its_published_size(channels, cond_channels, parameters):
    with torch.device('meta'):
        model = DiffusionHead(channels, cond_channels, 6, sigma_data=1.4, modulation='each',
                              coord_fourier=RandomFourierFeatures(512, 20.0),
                              noise_fourier=RandomFourierFeatures(channels, 1.0), noise_mlp=torch.nn.Identity())
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_there_is_no_such_modulation():
    with pytest.raises(ValueError, match=r"'modulation' must be one of each, shared, additive \(got 'none'\)"):
        DenoisingMLP(8, 1, modulation='none')


def test_each_token_has_its_own_loss_and_sample():
    model, y, cond, noise = head(seed=3), normal(6, 3), normal(6, 6, seed=1), normal(6, 3, seed=2)
    other = cond.clone()
    other[2] += 1
    a, b = (model.loss(y, c, 4, torch.Generator().manual_seed(2)) for c in (cond, other))
    assert ((a - b).abs() > 1e-6).nonzero().flatten().tolist() == [2]
    a, b = (model.sample(c, noise, 8) for c in (cond, other))
    assert ((a - b).abs().amax(1) > 1e-5).nonzero().flatten().tolist() == [2]
    torch.testing.assert_close(model.sample(cond[1:2], noise[1:2], 8), a[1:2], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize('solver, num_steps', [('dpmpp', 24), ('heun', 63)])
@pytest.mark.parametrize('sigma_data', [0.5, 1.4])
def test_a_head_that_has_learned_nothing_draws_a_gaussian(solver, num_steps, sigma_data):
    noise = normal(4000, 3)
    x = head(sigma_data).sample(torch.zeros(4000, 6), noise, num_steps, solver)
    torch.testing.assert_close(x, (x / noise).median() * noise, atol=1e-4, rtol=1e-4)  # its flow is a scaling
    assert x.mean().item() == pytest.approx(0, abs=0.05 * sigma_data)
    assert x.std().item() == pytest.approx(sigma_data, rel=0.04)


@pytest.mark.parametrize('solver', SOLVERS)
def test_solvers_converge_to_one_flow(solver):
    model, cond, noise = head(seed=5), normal(20, 6, seed=1), normal(20, 3, seed=2)
    exact = model.sample(cond, noise, 601, 'heun')
    assert (exact - 0.8 * noise).abs().max() > 0.1  # the network has a say
    error = [float((model.sample(cond, noise, n, solver) - exact).abs().max()) for n in (11, 41, 161)]
    assert error[2] < 0.015 and error[2] < error[1] / 2 < error[0] / 4


def plain(model, cond, noise, num_steps, solver, neighbors=None, guidance=None):
    """:meth:`DiffusionHead.sample` without anything computed beforehand."""
    sigmas = noise_levels((num_steps + 1) // 2 if solver == 'heun' else num_steps, 20.0, 5e-3, 7.0)

    def denoise(i, x):
        sigma = torch.full((x.size(0), 1), sigmas[i])
        out = model.denoise(x, sigma, model.cond_linear(cond), neighbors)
        if guidance is not None:
            null = model.denoise(x, sigma, model.cond_linear(guidance[0]), guidance[1])
            out = null + guidance[2] * (out - null)
        return out

    with torch.no_grad():
        return SOLVERS[solver](denoise, 20 * noise, sigmas)


def some_neighbors(num=6, channels=4, seed=0):
    valid = torch.rand(num, 5, generator=torch.Generator().manual_seed(seed)) > 0.4
    valid[:, 3], valid[0] = False, False  # a column and a place without atoms
    return NeighborContext(normal(num, 5, 3, seed=seed), normal(num, 5, channels, seed=seed), valid)


@pytest.mark.parametrize('solver', SOLVERS)
@pytest.mark.parametrize('pair_channels', [0, 4])
@pytest.mark.parametrize('kind', KINDS)
def test_what_is_computed_beforehand_changes_nothing(kind, pair_channels, solver):
    model, cond, noise = head(seed=5, kind=kind, pair_channels=pair_channels), normal(6, 6, seed=1), normal(6, 3)
    neighbors = some_neighbors() if pair_channels else None
    x = model.sample(cond, noise, 17, solver, neighbors=neighbors)
    torch.testing.assert_close(x, plain(model, cond, noise, 17, solver, neighbors), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('rows', [1, 40, 300])
def test_one_evaluation_of_many_steps(kind, rows):
    model, cond = head(seed=5, kind=kind, pair_channels=4), normal(rows, 16, seed=1)
    neighbors, level, x = some_neighbors(rows), torch.linspace(1, -1.5, 9).unsqueeze(1), normal(rows, 3)
    with torch.no_grad():
        steps = DenoisingSteps(model.network, level, cond, neighbors)
        for i in (0, 1, 2, 3, 2, 8):
            expected = model.network(x, level[i].expand(rows, 1), cond, 2 * x, neighbors)
            torch.testing.assert_close(steps(i, x, 2 * x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('pair_channels', [0, 4])
@pytest.mark.parametrize('kind', ['additive', 'each'])
def test_guidance(kind, pair_channels):
    model, noise = head(seed=5, kind=kind, pair_channels=pair_channels), normal(6, 3)
    cond, null = normal(6, 6, seed=1), normal(6, 6, seed=2)
    neighbors, null_neighbors = (some_neighbors(), some_neighbors(seed=3)) if pair_channels else (None, None)
    conditional, unconditional = (model.sample(c, noise, 8, neighbors=n)
                                  for c, n in ((cond, neighbors), (null, null_neighbors)))
    assert (conditional - unconditional).abs().max() > 0.01
    for scale, expected in ((1, conditional), (0, unconditional)):
        for near in (scale, scale + 1e-7):  # one half alone, and both
            guided = model.sample(cond, noise, 8, neighbors=neighbors, guidance=(null, null_neighbors, near))
            torch.testing.assert_close(guided, expected, atol=1e-5, rtol=1e-5)
    guided = model.sample(cond, noise, 8, neighbors=neighbors, guidance=(null, null_neighbors, 2.5))
    expected = plain(model, cond, noise, 8, 'dpmpp', neighbors, (null, null_neighbors, 2.5))
    torch.testing.assert_close(guided, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('mode', [torch.inference_mode, lambda: torch.autocast('cpu', torch.bfloat16)])
def test_sampling_in_inference_mode_and_under_autocast(mode):
    model, cond, noise = head(seed=5, pair_channels=4), normal(6, 6, seed=1), normal(6, 3)
    expected = model.sample(cond, noise, 8, neighbors=some_neighbors())
    with mode():
        x = model.sample(cond, noise, 8, neighbors=some_neighbors())
    assert x.dtype == torch.float32 and torch.equal(x, expected)


@pytest.mark.parametrize('solver, num_steps, evaluations', [('dpmpp', 7, 7), ('heun', 7, 7), ('heun', 8, 7),
                                                            ('dpmpp', 2, 2), ('heun', 3, 3)])
def test_num_steps_counts_evaluations(solver, num_steps, evaluations):
    model, calls = head(), []
    model.network.final_linear.register_forward_hook(lambda *_: calls.append(1))
    model.sample(normal(2, 6), normal(2, 3), num_steps, solver)
    assert len(calls) == evaluations


def test_sampling_draws_no_numbers_and_keeps_no_graph():
    model, state = head(seed=5), torch.random.get_rng_state()
    x = model.sample(normal(4, 6), normal(4, 3), 6)
    assert not x.requires_grad
    model.loss(normal(4, 3), normal(4, 6), 2, torch.Generator().manual_seed(0))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize('arguments, message', [
    (dict(num_steps=8, solver='euler'), r"'solver' must be one of dpmpp, heun \(got 'euler'\)"),
    (dict(num_steps=1), r"'num_steps' must be at least 2 for 'dpmpp' \(got 1\)"),
    (dict(num_steps=2, solver='heun'), r"'num_steps' must be at least 3 for 'heun' \(got 2\)"),
], ids=str)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        head().sample(normal(2, 6), normal(2, 3), **arguments)
