import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_geometric_inertial.generation.draws import draw, guided, random_numbers


@given(st.integers(0, 10**6), st.sampled_from([0.3, 1.0, 2.0]), st.sampled_from([0.2, 0.7, 1.0]))
def test_draws_follow_the_distribution(seed, temperature, top_p):
    logits = 2 * torch.randn(6, generator=torch.Generator().manual_seed(seed))
    n = 20_000
    uniform = (torch.arange(n) + 0.5) / n  # inverse of the distribution function on a fine grid: no statistics
    probability = torch.bincount(draw(logits.expand(n, -1), uniform, temperature, top_p), minlength=6) / n
    prob = (logits / temperature).softmax(0)
    order = prob.argsort(descending=True)
    kept = order[:int((prob[order].cumsum(0) < top_p - 1e-6).sum()) + 1]  # the least set of at least top_p
    expected = torch.zeros(6).index_copy(0, kept, prob[kept] / prob[kept].sum())
    torch.testing.assert_close(probability, expected, atol=3e-4, rtol=0)


def test_draws_at_the_ends():
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf]]).expand(2, -1)
    assert draw(logits, torch.tensor([0.0, 1 - 1e-7]), 1.0, 1.0).tolist() == [1, 1]


def test_guided_logits():
    cond, null = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    both = torch.stack([cond, null], dim=1).flatten(0, 1)
    torch.testing.assert_close(guided(both, 2.5, 2), null + 2.5 * (cond - null))
    assert guided(cond, 1.0, 1) is cond


def test_random_numbers_are_a_function_of_seed_and_number():
    a, b, c, d = (random_numbers(seed, index, 7) for seed, index in ((3, 5), (3, 5), (3, 6), (4, 5)))
    assert a.uniform.shape == (8, ) and a.noise.shape == (7, 3)
    assert torch.equal(a.uniform, b.uniform) and torch.equal(a.noise, b.noise)
    assert torch.equal(torch.rand(2, generator=a.generator), torch.rand(2, generator=b.generator))
    for other in (c, d):
        assert not torch.equal(a.uniform, other.uniform) and not torch.equal(a.noise, other.noise)
