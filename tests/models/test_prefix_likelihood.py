"""The quick likelihood of beginnings: its bound is the density where that is known, its other parts are log_softmax."""
from unittest.mock import patch

import torch
from torch_geometric.data import Batch, Data

from torch_geometric_inertial.models import prefix_likelihood
from torch_geometric_inertial.models.prefix_likelihood import prefix_log_prob


def test_the_bound_of_an_untrained_head_is_its_gaussian(make_model):
    """D = c_skip x is the denoiser of N(0, s²); without noise the integral is |y|² / 2s², exactly."""
    model = make_model(awake=False, coordinate_target='absolute', sigma_data=0.9)
    generator = torch.Generator().manual_seed(0)
    a, b = (Data(z=torch.tensor([6, 8, 1]), pos=torch.randn(3, 3, generator=generator)) for _ in range(2))
    with torch.no_grad(), patch.object(prefix_likelihood, 'NOISE_LEVELS', (1e-4, 1e4, 2000)):
        seen = model.read(Batch.from_data_list([a, b]))
        uniform = seen._replace(type_logits=torch.zeros_like(seen.type_logits))
        score = prefix_log_prob(uniform, model.head, torch.zeros(6, 3))
    expected = -(a.pos.square().sum() - b.pos.square().sum()) / (2 * 0.9**2)
    torch.testing.assert_close((score[0] - score[1]).float(), expected, atol=1e-3, rtol=1e-3)


def test_types_and_parents_count_and_molecules_do_not_mix(make_model, qm9):
    model = make_model()
    molecules = qm9[:5]
    noise = torch.randn(3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        seen = model.read(Batch.from_data_list(molecules))
        score = prefix_log_prob(seen, model.head, noise.expand(seen.local.size(0), 3))
        for i, data in enumerate(molecules):
            alone = model.read(data)
            own = prefix_log_prob(alone, model.head, noise.expand(data.num_nodes, 3))
            torch.testing.assert_close(own[0], score[i], atol=1e-3, rtol=1e-4)
            chance = alone.type_logits[:-1].log_softmax(1)[torch.arange(data.num_nodes), alone.next_type[:-1]].sum()
            parents = alone.parent_logits.log_softmax(1)[torch.arange(data.num_nodes), alone.parent][1:].sum()
            flat = alone._replace(type_logits=torch.zeros_like(alone.type_logits), parent_logits=None)
            places = prefix_log_prob(flat, model.head, noise.expand(data.num_nodes, 3))
            uniform = data.num_nodes * torch.tensor(model.stop + 1.0).log()
            torch.testing.assert_close((own - places - uniform)[0].float(), chance + parents, atol=1e-3, rtol=1e-4)
