import json
import math
import os
import signal
import subprocess
import sys
import time
import warnings

import pytest
import torch

from torch_geometric_inertial import InertialAR
from torch_geometric_inertial.training import FitConfig, PackedMolecules, fit, load_checkpoint


def log_of(folder):
    return [json.loads(line) for line in (folder / 'log.jsonl').read_text().splitlines()]


def weights_of(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def config(**kwargs):
    return FitConfig(**(dict(num_steps=12, batch_size=8, lr=0.05, warmup_steps=4, log_every=1, save_every=5) | kwargs))


# The script that is killed: InertialAR on random molecules. Its process dies of SIGKILL where it is told to.
SCRIPT = '''
import os, signal, sys
import torch
from torch_geometric_inertial import InertialAR
from torch_geometric_inertial.training import FitConfig, PackedMolecules, fit

torch.set_num_threads(1)

def parts():
    g = torch.Generator().manual_seed(0)
    z = torch.tensor([6, 1, 1, 8, 1]).repeat(16)
    data = PackedMolecules(z, 1.5 * torch.randn(80, 3, generator=g), 5 * torch.arange(17))
    torch.manual_seed(0)
    model = InertialAR(channels=16, heads=2, type_layers=1, coord_layers=1, head_channels=16, head_layers=1,
                       environment_channels=8, num_landmarks=8, dropout=0.1, context_noise=0.02)
    return model, data, FitConfig(num_steps=14, batch_size=8, warmup_steps=3, log_every=1, save_every=4)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def main(folder, where):
    model, data, config = parts()
    calls, save = [], torch.save

    def augment(batch, generator):
        calls.append(1)
        if where == 'in a step' and len(calls) == 11:
            die()
        return batch

    def torn_save(state, path):
        save(state, path)
        if where == 'in a save' and state['step'] == 8:
            os.truncate(path, 1000)
            die()

    torch.save = torn_save
    fit(model, data, folder, config, augment=augment)

if __name__ == '__main__':
    main(*sys.argv[1:])
'''


@pytest.fixture(scope='module')
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp('script') / 'train.py'
    path.write_text(SCRIPT)
    names: dict = {'__name__': 'script'}
    exec(compile(SCRIPT, path, 'exec'), names)
    return path, names['parts']


@pytest.fixture(scope='module')
def uninterrupted(script, tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')
    model, data, fit_config = script[1]()
    return weights_of(fit(model, data, folder, fit_config)), log_of(folder)


def run(*command, timeout=120, **environment):
    return subprocess.run([sys.executable, *map(str, command)], env=os.environ | {'OMP_NUM_THREADS': '1'} | environment,
                          capture_output=True, text=True, timeout=timeout)


@pytest.mark.parametrize('where, resumes_at', [('in a step', 8), ('in a save', 4)])
def test_a_killed_training_goes_on_as_if_it_had_not_been(script, uninterrupted, tmp_path, where, resumes_at):
    done = run(script[0], tmp_path, where)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert load_checkpoint(tmp_path)['step'] == resumes_at
    assert len(log_of(tmp_path)) in (8, 10)  # steps after the checkpoint were logged and will be done again
    model, data, fit_config = script[1]()
    weights = weights_of(fit(model, data, tmp_path, fit_config))
    assert torch.equal(weights, uninterrupted[0])
    logs = [[{k: v for k, v in line.items() if k != 'seconds'} for line in log]
            for log in (log_of(tmp_path), uninterrupted[1])]
    assert logs[0] == logs[1]  # to the last bit, each step once
    assert [line['step'] for line in logs[0]] == list(range(1, 15))


@pytest.mark.slow
def test_two_processes_agree(script, uninterrupted, tmp_path):
    done = run('-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', script[0], tmp_path, 'never')
    assert done.returncode == 0, done.stderr
    log = log_of(tmp_path)
    assert [line['step'] for line in log] == list(range(1, 15))  # one of them writes
    state = load_checkpoint(tmp_path)
    assert state['step'] == 14
    # The noise of the two is not that of one process; the loss falls as far.
    assert log[-1]['total'] == pytest.approx(uninterrupted[1][-1]['total'], rel=0.3)


def test_the_learning_rate_warms_up_and_anneals(net, waters, tmp_path):
    fit(net(), waters, tmp_path, config(min_lr=0.1))
    expected = [0.05 * min(1, (s + 1) / 4) * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * s / 12))) for s in range(12)]
    assert [line['lr'] for line in log_of(tmp_path)] == pytest.approx(expected)


def test_without_warm_up_the_first_step_is_at_the_peak(net, waters, tmp_path):
    fit(net(), waters, tmp_path, config(num_steps=1, warmup_steps=0))
    assert log_of(tmp_path)[0]['lr'] == pytest.approx(0.05)


def test_the_result_is_the_average_of_the_weights(net, waters, tmp_path):
    model, seen, averages = net(), [], []

    def evaluate(average, step):
        assert not average.training
        seen.append(weights_of(model).clone())
        averages.append(weights_of(average).clone())
        return dict(quality=float(step))
    result = fit(model, waters, tmp_path, config(ema_decay=0.4, evaluate_every=1), evaluate=evaluate)
    expected = seen[0]
    for step, weights in enumerate(seen):
        if step > 0:
            decay = min(0.4, (1 + step) / (10 + step))
            expected = decay * expected + (1 - decay) * weights
        torch.testing.assert_close(averages[step], expected)
    assert torch.equal(weights_of(result), averages[-1]) and not result.training
    assert [line['quality'] for line in log_of(tmp_path) if 'quality' in line] == list(range(1, 13))


def test_the_log_names_the_terms_and_averages_them(net, waters, tmp_path):
    fit(net(noise=0.1), waters, tmp_path / 'a', config())
    fit(net(noise=0.1), waters, tmp_path / 'b', config(log_every=3))
    one, three = log_of(tmp_path / 'a'), log_of(tmp_path / 'b')
    assert set(one[0]) == {'step', 'total', 'noise', 'lr', 'seconds'}
    assert [line['step'] for line in three] == [3, 6, 9, 12]
    for k, line in enumerate(three):
        assert line['total'] == pytest.approx(sum(x['total'] for x in one[3 * k:3 * k + 3]) / 3, rel=1e-5)
    assert one[-1]['total'] < 0.7 * one[0]['total']


def test_accumulated_parts_are_one_batch(net, waters, tmp_path):
    results = [weights_of(fit(net(), waters, tmp_path / str(n), config(accumulate=n))) for n in (1, 2, 4)]
    torch.testing.assert_close(results[1], results[0])
    torch.testing.assert_close(results[2], results[0])
    losses = [[line['total'] for line in log_of(tmp_path / str(n))] for n in (1, 2)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_an_epoch_sees_every_molecule_once_in_an_order_of_its_own(net, waters, tmp_path):
    def orders(seed, num_steps=6):
        seen = []

        def augment(batch, generator):
            seen.extend(batch.pos.view(-1, 3, 3)[:, 0, 0].int().tolist())
            return batch
        fit(net(), waters, tmp_path / f'{seed}-{num_steps}', config(num_steps=num_steps, seed=seed), augment=augment)
        return seen
    seen = orders(0)
    assert sorted(seen[:24]) == sorted(seen[24:]) == list(range(24))
    assert seen[:24] != seen[24:] and seen[:24] != orders(1)[:24] and seen[:16] == orders(0, 2)


def test_augmentation_draws_from_a_generator_of_the_step(net, waters, tmp_path):
    drawn = {}

    def augment(batch, generator):
        drawn.setdefault(folder, []).append(float(torch.rand((), generator=generator)))
        return batch
    for folder in ('a', 'b'):
        fit(net(), waters, tmp_path / folder, config(), augment=augment)
    assert drawn['a'] == drawn['b'] and len(set(drawn['a'])) == 12


def test_global_random_state_is_untouched_and_without_effect(net, waters, tmp_path):
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        results.append(weights_of(fit(net(noise=0.1, dropout=0.2), waters, tmp_path / str(seed), config())))
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(*results)
    other = fit(net(noise=0.1, dropout=0.2), waters, tmp_path / 'other', config(seed=1))
    assert not torch.equal(weights_of(other), results[0])


def test_a_finished_training_is_not_done_again(net, waters, tmp_path):
    a = weights_of(fit(net(), waters, tmp_path, config()))

    def augment(batch, generator):
        raise AssertionError('a step was taken')
    assert torch.equal(weights_of(fit(net(), waters, tmp_path, config(), augment=augment)), a)
    assert len(log_of(tmp_path)) == 12


def test_time_is_up(net, waters, tmp_path):
    def augment(batch, generator):
        time.sleep(0.02)
        return batch
    limited = config(num_steps=100_000, max_minutes=0.4 / 60)
    start = time.monotonic()
    model = fit(net(), waters, tmp_path, limited, augment=augment)
    assert time.monotonic() - start < 20
    state, log = load_checkpoint(tmp_path), log_of(tmp_path)
    assert 0 < state['step'] == log[-1]['step'] < 1000 and state['seconds'] >= 0.4
    assert log[-1]['lr'] < 0.2 * 0.05  # annealed to the time that there was
    again = fit(net(), waters, tmp_path, limited, augment=augment)  # the time of all runs together
    assert load_checkpoint(tmp_path)['step'] == state['step']
    assert torch.equal(weights_of(again), weights_of(model))


def test_a_loss_that_is_not_finite_stops_with_its_batch(net, waters, tmp_path):
    def augment(batch, generator):
        if (tmp_path / 'checkpoint-000000005.pt').exists():
            batch.pos[4] = torch.nan
        return batch
    with pytest.raises(FloatingPointError, match=r"step 5: loss nan; the batch is in '.*not_finite.pt'"):
        fit(net(), waters, tmp_path, config(), augment=augment)
    dump = torch.load(tmp_path / 'not_finite.pt', weights_only=True)
    assert dump['step'] == 5 and dump['pos'].isnan().any(1).nonzero().flatten().tolist() == [4]
    clean = waters.batch(dump['index'])
    assert torch.equal(clean.z, dump['z']) and torch.equal(clean.ptr, dump['ptr'])
    assert load_checkpoint(tmp_path)['step'] == 5
    assert bool(weights_of(fit(net(), waters, tmp_path, config())).isfinite().all())  # nothing is lost


def test_a_gradient_that_is_not_finite_stops(net, waters, tmp_path):
    model = net()
    model.linear.bias.register_hook(lambda grad: grad * torch.inf)
    with pytest.raises(FloatingPointError, match=r'step 0: gradient norm (inf|nan); the batch is in'):
        fit(model, waters, tmp_path, config())
    assert torch.equal(weights_of(model), weights_of(net()))


def test_a_torn_log_and_what_came_after_the_checkpoint_are_dropped(net, waters, tmp_path):
    whole = weights_of(fit(net(), waters, tmp_path / 'whole', config()))
    fit(net(), waters, tmp_path / 'part', config(num_steps=12))
    part = tmp_path / 'part'
    (part / 'checkpoint-000000012.pt').unlink()  # back to step 10
    with open(part / 'log.jsonl', 'a') as file:
        file.write('{"step": 13, "tot')
    assert torch.equal(weights_of(fit(net(), waters, part, config())), whole)
    assert [line['step'] for line in log_of(part)] == list(range(1, 13))


def test_a_torn_checkpoint_costs_the_steps_since_the_one_before(net, waters, tmp_path):
    whole = weights_of(fit(net(noise=0.1), waters, tmp_path, config()))
    path = tmp_path / 'checkpoint-000000012.pt'
    path.write_bytes(path.read_bytes()[:300])
    with pytest.warns(UserWarning, match='is passed over'):
        again = fit(net(noise=0.1), waters, tmp_path, config())
    assert torch.equal(weights_of(again), whole)
    for path in tmp_path.glob('checkpoint-*.pt'):
        path.write_bytes(b'')
    with warnings.catch_warnings(), pytest.raises(ValueError, match='none of the 2 checkpoints'):
        warnings.simplefilter('ignore')
        fit(net(), waters, tmp_path, config())


@pytest.mark.parametrize('change, message', [
    (dict(seed=3), r"'.*' holds a training with seed = 0 \(got 3\)"),
    (dict(batch_size=4), r"'.*' holds a training with batch_size = 8 \(got 4\)"),
], ids=str)
def test_another_training_is_not_resumed(net, waters, tmp_path, change, message):
    fit(net(), waters, tmp_path, config(num_steps=2))
    with pytest.raises(ValueError, match=message):
        fit(net(), waters, tmp_path, config(**change))
    fewer = PackedMolecules(waters.z[:48], waters.pos[:48], waters.ptr[:17])
    with pytest.raises(ValueError, match=r'holds a training with num_molecules = 24 \(got 16\)'):
        fit(net(), fewer, tmp_path, config())


def test_bfloat16_trains(script, tmp_path):
    model, data, _ = script[1]()
    assert isinstance(model, InertialAR)
    fit(model, data, tmp_path, FitConfig(num_steps=3, batch_size=8, precision='bfloat16', log_every=1))
    assert all(math.isfinite(line['total']) for line in log_of(tmp_path))
    assert all(p.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize('fields, message', [
    *[({name: 0}, rf"'{name}' must be at least 1 \(got 0\)")
      for name in ('num_steps', 'batch_size', 'accumulate', 'log_every', 'save_every')],
    *[({name: -1}, rf"'{name}' must not be negative \(got -1\)")
      for name in ('warmup_steps', 'evaluate_every', 'weight_decay', 'min_lr')],
    (dict(max_norm=0.0), r"'max_norm' must be positive \(got 0.0\)"),
    (dict(lr=0.0), r"'lr' must be positive \(got 0.0\)"),
    (dict(lr=math.nan), r"'lr' must be positive \(got nan\)"),
    (dict(ema_decay=1.0), r"'ema_decay' must be in \[0, 1\) \(got 1.0\)"),
    (dict(precision='float16'), r"'precision' must be 'float32' or 'bfloat16' \(got 'float16'\)"),
    (dict(max_minutes=0.0), r"'max_minutes' must be positive \(got 0.0\)"),
], ids=str)
def test_errors_of_the_configuration(fields, message):
    with pytest.raises(ValueError, match=message):
        FitConfig(**(dict(num_steps=1) | fields))


@pytest.mark.parametrize('fields, message', [
    (dict(accumulate=3), r"'batch_size' must be a multiple of processes \* accumulate = 3 \(got 8\)"),
    (dict(batch_size=25), r"'batch_size' must be at most the number of molecules, 24 \(got 25\)"),
], ids=str)
def test_errors_of_the_batch_size(net, waters, tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        fit(net(), waters, tmp_path, config(**fields))
