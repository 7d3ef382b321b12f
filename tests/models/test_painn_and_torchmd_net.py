r"""PaiNN and TorchMD-NET against layers that loop over atoms, written from the papers' equations."""
import json

import pytest
import torch
from helpers.predictors import MOLECULES, awake, batch_of, close, cloud, run
from torch_geometric.data import Data

from torch_geometric_inertial import PaiNN, PaiNNConfig, TorchMDNet, TorchMDNetConfig
from torch_geometric_inertial.models.painn import PaiNNLayer
from torch_geometric_inertial.models.torchmd_net import TorchMDNetLayer
from torch_geometric_inertial.neighbors.edges import Edges
from torch_geometric_inertial.nn.edge_attention import edge_attention
from torch_geometric_inertial.testing import assert_equivariant

CUTOFF, WIDTH, KERNELS = 3.0, 8, 5
MODELS = {'PaiNN': PaiNN, 'TorchMDNet': TorchMDNet}


def make(kind, **fields):
    small = dict(channels=8, num_layers=2, num_kernels=5, cutoff=CUTOFF, elements=(1, 6, 7, 8), **fields)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return awake(MODELS[kind](**small, **(dict(heads=2) if kind == 'TorchMDNet' else {})).double().eval())


def painn_reference(layer, s, v, pos, radial, cutoff):
    """Eq. 7 to 10, one atom after the other; v [N, 3, F]."""
    f, silu = s.size(1), torch.nn.functional.silu
    a1, a2, b1, b2 = layer.phi[0], layer.phi[2], layer.update[0], layer.update[2]
    phi = silu(s @ a1.weight.T + a1.bias) @ a2.weight.T + a2.bias
    new_s, new_v = [], []
    for i in range(len(s)):
        ds, dv = torch.zeros_like(s[i]), torch.zeros_like(v[i])
        for j in range(len(s)):
            r = pos[i] - pos[j]
            d = r.norm() if i != j else None
            if i == j or d >= CUTOFF:
                continue
            w = (layer.filter.weight @ radial(d) + layer.filter.bias) * cutoff(d)
            x = phi[j] * w
            ds = ds + x[:f]
            dv = dv + v[j] * x[f:2 * f] + torch.outer(r / d, x[2 * f:])
        new_s.append(s[i] + ds)
        new_v.append(v[i] + dv)
    s, v = torch.stack(new_s), torch.stack(new_v)
    u, w = v @ layer.mix.weight[:f].T, v @ layer.mix.weight[f:].T
    length = torch.sqrt((w ** 2).sum(1) + layer.norm_eps)
    a = silu(torch.cat([s, length], 1) @ b1.weight.T + b1.bias) @ b2.weight.T + b2.bias
    return (s + a[:, :f] + a[:, f:2 * f] * torch.einsum('nac,nac->nc', u, w),
            v + a[:, None, 2 * f:] * u)


def torchmd_reference(layer, s, v, pos, radial, cutoff):
    """Eq. 5 to 10, one atom and one head after the other."""
    d, h, silu = s.size(1), layer.heads, torch.nn.functional.silu
    k = d // h
    x = torch.nn.functional.layer_norm(s, (d, ), layer.norm.weight, layer.norm.bias)
    q, key, value = (x @ m.weight.T + m.bias for m in (layer.query, layer.key, layer.value))
    new_s, new_v = [], []
    for i in range(len(s)):
        m, dv = torch.zeros_like(s[i]), torch.zeros_like(v[i])
        for j in range(len(s)):
            r = pos[j] - pos[i]
            distance = r.norm() if i != j else r.new_zeros(())
            unit = r / distance if i != j else r * 0
            if distance >= CUTOFF:
                continue
            dk = silu(layer.key_filter.weight @ radial(distance) + layer.key_filter.bias)
            dvalue = silu(layer.value_filter.weight @ radial(distance) + layer.value_filter.bias)
            heads, parts = [], ([], [], [])
            for a in range(h):
                one = slice(a * k, (a + 1) * k)
                alpha = silu((q[i, one] * key[j, one] * dk[one]).sum())
                alpha = alpha if layer.vector_cutoff else alpha * cutoff(distance)
                for p in range(3):
                    at = slice((3 * a + p) * k, (3 * a + p + 1) * k)
                    part = value[j, at] * dvalue[at]
                    parts[p].append(part * cutoff(distance) if layer.vector_cutoff else part)
                heads.append(alpha * parts[0][-1])
            m = m + torch.cat(heads)
            dv = dv + v[j] * torch.cat(parts[1]) + torch.outer(unit, torch.cat(parts[2]))
        o = layer.out.weight @ m + layer.out.bias
        u = [v[i] @ layer.mix.weight[p * d:(p + 1) * d].T for p in range(3)]
        new_s.append(s[i] + o[:d] + o[d:2 * d] * (u[0] * u[1]).sum(0))
        new_v.append(v[i] + dv + o[2 * d:] * u[2])
    return torch.stack(new_s), torch.stack(new_v)


def three_layers(make_layer, reference, own_pairs, sign, perturb=0.0):
    """Outputs and gradients by position of our layers and of the reference, on 12 atoms."""
    torch.manual_seed(0)
    layers = [awake(make_layer().double(), k) for k in range(3)]
    pos = cloud(12, 5).pos.requires_grad_()
    s0, v0 = torch.randn(12, WIDTH).double(), torch.randn(12, 3, WIDTH).double()

    def radial(d):
        return torch.exp(-(d.unsqueeze(-1) - torch.linspace(0, 3, KERNELS, dtype=torch.float64)) ** 2)

    def cutoff(d):
        return 0.5 * (torch.cos(torch.pi * d / CUTOFF) + 1)
    with torch.no_grad():
        near = (torch.cdist(pos, pos) < CUTOFF) & (own_pairs | ~torch.eye(12, dtype=torch.bool))
    row, col = near.nonzero().T
    edges = Edges(row, col, 12)
    apart = pos[col] - pos[row]
    zero = row == col
    distance = torch.where(zero, 1.0, apart.square().sum(1)).sqrt() * ~zero
    direction = sign * apart / torch.where(zero, 1.0, distance).unsqueeze(1)
    results = []
    for ours in (True, False):
        s, v = s0, v0
        for k, layer in enumerate(layers):
            if ours:
                s, v = layer(s, v, edges, radial(distance), cutoff(distance), direction)
            else:
                if k == 0 and perturb:
                    with torch.no_grad():
                        next(layer.parameters())[0] += perturb
                s, v = reference(layer, s, v, pos, radial, cutoff)
        gradient, = torch.autograd.grad(s.sin().sum() + v.cos().sum(), pos)
        results.append((s, v, gradient))
    return [float((a - b).detach().abs().max() / b.detach().abs().max()) for a, b in zip(*results, strict=True)]


LAYERS = {
    'PaiNN': (lambda: PaiNNLayer(WIDTH, KERNELS), painn_reference, torch.tensor(False), -1),
    'TorchMDNet': (lambda: TorchMDNetLayer(WIDTH, 2, KERNELS), torchmd_reference, torch.tensor(True), 1),
    'TorchMDNet default': (lambda: TorchMDNetLayer(WIDTH, 2, KERNELS, vector_cutoff=False), torchmd_reference,
                           torch.tensor(True), 1),
}


@pytest.mark.parametrize('name', LAYERS)
def test_layers_equal_the_equations(name):
    assert all(error < 1e-10 for error in three_layers(*LAYERS[name]))
    assert max(three_layers(*LAYERS[name], perturb=1e-3)) > 1e-6  # the comparison sees a small change


def test_schnetpack_with_copied_weights():
    schnetpack = pytest.importorskip('schnetpack')
    torch.manual_seed(0)
    ours = awake(PaiNNLayer(WIDTH, KERNELS).double())
    interaction = schnetpack.representation.painn.PaiNNInteraction(WIDTH, torch.nn.functional.silu).double()
    mixing = schnetpack.representation.painn.PaiNNMixing(WIDTH, torch.nn.functional.silu, 1e-8).double()
    with torch.no_grad():
        for theirs, mine in ((interaction.interatomic_context_net, ours.phi), (mixing.intraatomic_context_net,
                                                                               ours.update)):
            for a, b in ((theirs[0], mine[0]), (theirs[1], mine[2])):
                a.weight.copy_(b.weight)
                a.bias.copy_(b.bias)
        # Theirs: scalars, then direction, then vectors; in the update: scalars, vectors, product. Directions to j.
        f = WIDTH
        order = torch.cat([torch.arange(f), torch.arange(2 * f, 3 * f), torch.arange(f, 2 * f)])
        for parameter in (interaction.interatomic_context_net[1].weight, interaction.interatomic_context_net[1].bias,
                          mixing.intraatomic_context_net[1].weight, mixing.intraatomic_context_net[1].bias):
            parameter.copy_(parameter[order])
        mixing.mu_channel_mix.weight.copy_(ours.mix.weight.view(2, f, f).flip(0).reshape(2 * f, f))
    pos = cloud(12, 5).pos
    row, col = ((torch.cdist(pos, pos) < CUTOFF) & ~torch.eye(12, dtype=torch.bool)).nonzero().T
    apart = pos[col] - pos[row]
    distance = apart.norm(dim=1)
    radial = torch.randn(len(row), KERNELS, dtype=torch.float64)
    s, v = torch.randn(12, WIDTH).double(), torch.randn(12, 3, WIDTH).double()
    direction = apart / distance.unsqueeze(1)
    w = ours.filter(radial)[:, order].unsqueeze(1)
    q, mu = mixing(*interaction(s.unsqueeze(1), v, w, direction, row, col, 12))
    mine = ours(s, v, Edges(row, col, 12), radial, torch.ones_like(distance), direction)
    close(mine[0], q.squeeze(1))
    close(mine[1], mu)


def test_torchmd_net_with_copied_weights():
    module = pytest.importorskip('torchmdnet.models.torchmd_et')
    torch.manual_seed(0)
    ours = awake(TorchMDNetLayer(WIDTH, 2, KERNELS, vector_cutoff=False).double())
    theirs = module.EquivariantMultiHeadAttention(
        hidden_channels=WIDTH, num_rbf=KERNELS, distance_influence='both', num_heads=2, activation=torch.nn.SiLU,
        attn_activation='silu', cutoff_lower=0.0, cutoff_upper=CUTOFF, vector_cutoff=False, dtype=torch.float64)
    pairs = dict(layernorm='norm', q_proj='query', k_proj='key', v_proj='value', dk_proj='key_filter',
                 dv_proj='value_filter', vec_proj='mix')
    for name, own in pairs.items():
        getattr(theirs, name).load_state_dict(getattr(ours, own).state_dict())
    with torch.no_grad():  # theirs: gate of U3 v, factor of the product, plain; ours: plain, product, gate
        order = torch.arange(3 * WIDTH).view(3, WIDTH).flip(0).flatten()
        theirs.o_proj.weight.copy_(ours.out.weight[order])
        theirs.o_proj.bias.copy_(ours.out.bias[order])
    pos = cloud(12, 5).pos
    row, col = (torch.cdist(pos, pos) < CUTOFF).nonzero().T
    apart = pos[col] - pos[row]
    distance = apart.norm(dim=1)
    direction = apart / torch.where(distance == 0, 1.0, distance).unsqueeze(1)
    radial = torch.randn(len(row), KERNELS, dtype=torch.float64)
    s, v = torch.randn(12, WIDTH).double(), torch.randn(12, 3, WIDTH).double()
    ds, dv = theirs(s, v, torch.stack([col, row]), distance, radial, direction)
    mine = ours(s, v, Edges(row, col, 12), radial, 0.5 * (torch.cos(torch.pi * distance / CUTOFF) + 1), direction)
    close(mine[0], s + ds)
    close(mine[1], v + dv)


@pytest.mark.parametrize('head', ['direct', 'conservative'])
@pytest.mark.parametrize('kind', MODELS)
def test_models_keep_the_laws(kind, head):
    model, molecules = make(kind, vector_head=head), [cloud(7, 1), cloud(1, 2), cloud(4, 3)]
    data = batch_of(*molecules)
    scalars, vectors = run(model, data)
    assert vectors.abs().max() > 1e-4
    mirrored = Data(z=data.z, pos=40 - data.pos, batch=data.batch)
    other_scalars, other_vectors = run(model, mirrored)
    close(other_scalars, scalars)
    close(other_vectors, -vectors, 1e-9)
    assert_equivariant(lambda molecule: run(model, molecule)[1], molecules[0], atol=1e-9)
    for k, molecule in enumerate(molecules):
        close(run(model, molecule)[0], scalars[k:k + 1])
    if head == 'conservative':
        step = torch.zeros_like(data.pos)
        step[2, 1] = 1e-5
        ends = [run(model, Data(z=data.z, pos=data.pos + sign * step, batch=data.batch))[0].sum() for sign in (1, -1)]
        assert float((ends[1] - ends[0]) / 2e-5) == pytest.approx(float(vectors[2, 1]), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize('kind', MODELS)
def test_derivatives_are_finite_where_the_equations_are_not(kind):
    model = make(kind, vector_head='conservative')
    pos = MOLECULES['H2O'].pos[[0, 1, 1]].clone().requires_grad_()
    energy, forces = model(MOLECULES['H2O'].z, pos, validate=False)
    second, = torch.autograd.grad(forces.square().sum(), pos)
    assert energy.isfinite().all() and forces.isfinite().all() and second.isfinite().all()


@pytest.mark.parametrize('kind', MODELS)
def test_saved_and_loaded(kind, tmp_path):
    model, data = make(kind).float(), cloud(5, 1, torch.float32)
    again = MODELS[kind].from_pretrained(model.save_pretrained(tmp_path))
    assert torch.equal(run(again, data)[0], run(model, data)[0])
    assert type(model.config)(**json.loads(json.dumps(model.config.to_dict()))) == model.config


def test_sums_over_edges_with_and_without_weights():
    edges = Edges(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 2)
    value, weight = torch.arange(12.0).view(3, 4), torch.tensor([[1.0, 0.5], [2.0, 0.0], [3.0, 1.0]])
    torch.testing.assert_close(edge_attention(value, edges), torch.stack([value[0] + value[1], value[2]]))
    each = value * weight.repeat_interleave(2, dim=1)  # two heads of two channels
    torch.testing.assert_close(edge_attention(value, edges, weight), torch.stack([each[0] + each[1], each[2]]))
    vectors = value.unsqueeze(1).expand(-1, 3, -1)
    torch.testing.assert_close(edge_attention(vectors, edges, weight)[:, 2], edge_attention(value, edges, weight))


@pytest.mark.parametrize('kind', MODELS)
def test_charges_spins_and_tags_are_read(kind):
    """As by GeoMFormer: what the configuration declares, no model leaves out."""
    model, data = make(kind, charges=(0, 1), spins=(1, 2), num_tags=3), cloud(5, 1)
    base = dict(charge=torch.tensor([0]), spin=torch.tensor([1]), tags=torch.tensor([0, 1, 2, 1, 1]))
    energies = [float(run(model, data, **base | change)[0].detach()) for change in (
        {}, dict(charge=torch.tensor([1])), dict(spin=torch.tensor([2])), dict(tags=torch.tensor([0, 2, 2, 1, 1])))]
    assert len({round(energy, 6) for energy in energies}) == 4
    with pytest.raises(ValueError, match=rf"'charge' must be given: this {kind} reads charges"):
        run(model, data, tags=base['tags'])


@pytest.mark.parametrize('config, fields, message', [
    *[(config, {name: 0}, rf"'{name}' must be at least 1 \(got 0\)")
      for config in (PaiNNConfig, TorchMDNetConfig) for name in ('channels', 'num_layers', 'num_kernels')],
    *[(config, dict(cutoff=0.0), r"'cutoff' must be positive \(got 0.0\)")
      for config in (PaiNNConfig, TorchMDNetConfig)],
    *[(config, dict(elements=()), r"'elements' must hold at least one type of atoms \(got \(\)\)")
      for config in (PaiNNConfig, TorchMDNetConfig)],
    (TorchMDNetConfig, dict(channels=9, heads=2), r"'channels' must be a multiple of heads = 2 \(got 9\)"),
    *[(config, dict(velocity='merged'), r"'velocity' must be one of none \(got 'merged'\)")
      for config in (PaiNNConfig, TorchMDNetConfig)],
    *[(config, dict(cutoff=None), r"'cutoff' must be a finite number \(got None\)")
      for config in (PaiNNConfig, TorchMDNetConfig)],
    (PaiNNConfig, dict(norm_eps=0.0), r"'norm_eps' must be positive \(got 0.0\)"),
], ids=str)
def test_errors_of_the_configuration(config, fields, message):
    with pytest.raises(ValueError, match=message):
        config(**fields)


@pytest.mark.parametrize('kind', MODELS)
def test_errors_of_the_model(kind):
    config = MODELS[kind].config_class()
    with pytest.raises(ValueError, match=r"give 'config' or its fields, not both \(got \['channels'\]\)"):
        MODELS[kind](config, channels=2)
    with pytest.raises(ValueError, match=rf"'layers' is not a field of {kind}Config"):
        MODELS[kind](layers=2)
