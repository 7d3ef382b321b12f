import torch

from torch_geometric_inertial.nn.pair_field import NeighborContext, PairField
from torch_geometric_inertial.testing import random_rotation


def setting(seed=0, num=5, k=4, channels=16, pair_channels=8, awake=True):
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    field = PairField(channels, pair_channels)
    if awake:
        torch.nn.init.normal_(field.out.weight)
        torch.nn.init.normal_(field.force.weight)
    x, offset = torch.randn(num, 3, generator=generator), 2 * torch.randn(num, k, 3, generator=generator)
    key = torch.randn(num, k, pair_channels, generator=generator)
    neighbors = NeighborContext(offset, key, torch.rand(num, k) > 0.3)
    return field, x, torch.randn(num, 1, generator=generator), neighbors


def test_a_new_field_is_silent():
    field, x, level, neighbors = setting(awake=False)
    message, force = field(x, level, neighbors)
    assert not message.any() and not force.any()


def test_atoms_that_are_not_there_say_nothing():
    field, x, level, neighbors = setting()
    garbage = torch.where(neighbors.valid.unsqueeze(-1), neighbors.offset, 1e3)
    for a, b in zip(field(x, level, neighbors), field(x, level, neighbors._replace(offset=garbage)), strict=True):
        torch.testing.assert_close(a, b)


def test_the_order_of_the_atoms_does_not_matter():
    field, x, level, neighbors = setting()
    perm = torch.tensor([2, 0, 3, 1])
    permuted = NeighborContext(*(t[:, perm] for t in neighbors))
    for a, b in zip(field(x, level, neighbors), field(x, level, permuted), strict=True):
        torch.testing.assert_close(a, b)


def test_the_force_turns_with_the_atoms_where_directions_are_not_told():
    field, x, level, neighbors = setting()
    torch.nn.init.zeros_(field.direction.weight)
    turn = random_rotation(3).float()
    message, force = field(x, level, neighbors)
    turned = field(x @ turn.T, level, neighbors._replace(offset=neighbors.offset @ turn.T))
    torch.testing.assert_close(turned[0], message, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(turned[1], force @ turn.T, atol=1e-4, rtol=1e-4)


def test_it_is_finite_and_smooth_on_top_of_an_atom():
    field, _, level, neighbors = setting()
    x = neighbors.offset[:, 0].clone().requires_grad_()
    message, force = field(x, level, neighbors)
    (message.sum() + force.sum()).backward()
    assert message.isfinite().all() and force.isfinite().all() and x.grad.isfinite().all()
