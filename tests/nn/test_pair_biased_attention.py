import pytest
import torch

from torch_geometric_inertial.nn.pair_biased_attention import PairBiasedAttention, PairBiasedBlock


def block(channels=12, heads=3, pair_channels=5):
    torch.manual_seed(0)
    layer = PairBiasedBlock(channels, heads, pair_channels).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return layer


def test_attention_is_its_formula():
    torch.manual_seed(0)
    layer = PairBiasedAttention(4, 1, 2).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    x, pair = torch.randn(1, 3, 4).double(), torch.randn(1, 3, 3, 2).double()
    query, key, value = layer.qkv(x)[0].split(4, dim=-1)
    expected = torch.empty(3, 4).double()
    for i in range(3):
        score = torch.stack([query[i] @ key[j] / 2 + layer.bias(pair[0, i, j])[0] for j in range(3)]).softmax(dim=0)
        mixed, pairs = score @ value, score @ pair[0, i]
        expected[i] = layer.out.weight @ mixed + layer.pair_out.weight @ pairs
    out = layer(x, pair, torch.ones(1, 3, 3, dtype=torch.bool))
    torch.testing.assert_close(out[0], expected)


def test_the_order_of_atoms_does_not_matter():
    layer, x, pair = block(), torch.randn(2, 5, 12).double(), torch.randn(2, 5, 5, 5).double()
    mask, perm = torch.ones(1, 5, 5, dtype=torch.bool), torch.randperm(5)
    torch.testing.assert_close(layer(x[:, perm], pair[:, perm][:, :, perm], mask), layer(x, pair, mask)[:, perm])


def test_what_is_masked_has_no_part():
    layer, x, pair = block(), torch.randn(1, 4, 12).double(), torch.randn(1, 4, 4, 5).double()
    causal = torch.ones(1, 4, 4, dtype=torch.bool).tril()
    before = layer(x, pair, causal)
    x[:, 3], pair[:, :, 3] = 7, 7
    torch.testing.assert_close(layer(x, pair, causal)[:, :3], before[:, :3])


def test_token_by_token_with_a_cache_is_the_whole_pass():
    layer = block()
    lengths, x, pair = [5, 3], torch.randn(2, 5, 12).double(), torch.randn(2, 5, 5, 5).double()
    whole = layer(x, pair, torch.ones(1, 5, 5, dtype=torch.bool).tril())
    cache = layer.attention.new_cache(2, 6, x)
    at = torch.zeros(2, dtype=torch.long)
    for _ in range(5):  # the second sequence waits at its end
        slot = torch.minimum(at, torch.tensor(lengths) - 1)
        row = torch.arange(2)
        mask = torch.arange(5) <= slot.unsqueeze(1)
        out = layer(x[row, slot].unsqueeze(1), pair[row, slot].unsqueeze(1), mask.unsqueeze(1), cache, slot)
        torch.testing.assert_close(out.squeeze(1), whole[row, slot])
        at += 1


def test_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match="'channels' must be a multiple of 'heads' = 4 \\(got 10\\)"):
        PairBiasedAttention(10, 4, 2)
