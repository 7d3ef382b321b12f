import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace

import pytest
import torch

from torch_geometric_inertial import InertialAR
from torch_geometric_inertial.files import locked_folder
from torch_geometric_inertial.training import (
    FitConfig,
    PackedMolecules,
    RandomPose,
    fit,
    load_checkpoint,
    save_checkpoint,
)
from torch_geometric_inertial.training.log import append_record
from torch_geometric_inertial.training.stop import StopSignal


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
    model = InertialAR(channels=16, heads=2, bonds=False, type_layers=1, coord_layers=1, head_channels=16,
                       head_layers=1, num_landmarks=8, dropout=0.1, context_noise=0.02)
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
    path = tmp_path_factory.mktemp('script') / 'script.py'
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
    expected = [0.05 * min(1, (s + 1) / 1.2) * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * s / 12))) for s in range(12)]
    assert [line['lr'] for line in log_of(tmp_path)] == pytest.approx(expected)


@pytest.mark.parametrize('num_steps, warmup, peak', [(60, 4, 4), (60, 200, 6), (160, 200, 16)])
def test_the_warm_up_takes_a_tenth_of_the_budget_at_most(net, waters, tmp_path, num_steps, warmup, peak):
    fit(net(), waters, tmp_path, config(num_steps=num_steps, warmup_steps=warmup, min_lr=1.0))
    lr = [line['lr'] for line in log_of(tmp_path)]
    assert lr == pytest.approx([0.05 * min(1, (s + 1) / peak) for s in range(num_steps)])


def test_the_warm_up_of_a_training_that_time_ends(net, waters, tmp_path):
    def augment(batch, generator):
        time.sleep(0.01)
        return batch
    fit(net(), waters, tmp_path, config(num_steps=100_000, warmup_steps=100_000, max_minutes=1 / 60, min_lr=1.0),
        augment=augment)
    log = log_of(tmp_path)
    assert log[0]['lr'] < 0.01 and log[len(log) // 2]['lr'] == 0.05


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


def test_a_batch_larger_than_the_set_is_clipped_with_a_word(net, waters, tmp_path):
    with pytest.warns(UserWarning, match=r"'batch_size' is 100, but there are 24 molecules: each step takes 20"):
        model = fit(net(), waters, tmp_path, config(num_steps=2, batch_size=100, accumulate=5))
    assert not model.training and json.loads((tmp_path / 'training.json').read_text())['done']['molecules_seen'] == 40


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
    (dict(batch_size=50, accumulate=25), r"'data' must hold a molecule for each of processes \* accumulate = 25 parts "
                                         r"\(got 24\)"),
    (dict(batch_atoms=5, accumulate=2), r"'max_atoms' must be at least 2 parts \* 3 atoms of the largest molecule "
                                        r"\(got 5\)"),
], ids=str)
def test_errors_of_the_batch_size(net, waters, tmp_path, fields, message):
    with pytest.raises(ValueError, match=message):
        fit(net(), waters, tmp_path, config(**fields))


# What a folder knows ------------------------------------------------------------------------------------------------

def test_the_record_is_what_was_done_not_what_was_asked_for(script, tmp_path):
    model, data, _ = script[1]()

    def slow(batch, generator):
        time.sleep(0.05)
        return batch
    limited = FitConfig(num_steps=10_000, batch_size=8, max_minutes=0.5 / 60, log_every=1)
    trained = fit(model, data, tmp_path / 'training', limited, augment=slow)
    steps = load_checkpoint(tmp_path / 'training')['step']
    trained.save_pretrained(tmp_path / 'model', training=dict(steps=10_000, data='waters'))
    facts = json.loads((tmp_path / 'model' / 'config.json').read_text())
    said = facts['training']
    assert facts['training_domain'] == dict(num_atoms=[5, 5], elements=[1, 6, 8], formulas=['CH3O'],
                                            num_heavy_atoms=[2, 2])
    assert 0 < steps < 100 and said['steps'] == steps and said['molecules_seen'] == 8 * steps
    assert said['molecules'] == 16 and said['data'] == 'waters' and 0.008 <= said['minutes'] < 1
    assert json.loads((tmp_path / 'training' / 'training.json').read_text())['done'] == {
        name: said[name] for name in said if name != 'data'}
    assert f'- steps: {steps}\n' in (tmp_path / 'model' / 'README.md').read_text()


def test_the_count_goes_on_over_a_resume(net, waters, tmp_path):
    for num_steps in (5, 12):
        fit(net(), waters, tmp_path, config(num_steps=num_steps))
    done = json.loads((tmp_path / 'training.json').read_text())['done']
    assert done['steps'] == 12 and done['molecules_seen'] == 96


@pytest.mark.parametrize('change, message', [
    (dict(lr=0.1), r"holds a training with lr = 0.05 \(got 0.1\): choose another folder, or remove this one"),
    (dict(weight_decay=5.0), r'holds a training with weight_decay = 0.0001 \(got 5.0\)'),
    (dict(betas=(0.8, 0.9)), r'holds a training with betas = \[0.9, 0.95\] \(got \[0.8, 0.9\]\)'),
    (dict(batch_atoms=50), r'holds a training with batch_atoms = None \(got 50\)'),
], ids=str)
def test_other_settings_are_another_training(net, waters, tmp_path, change, message):
    fit(net(), waters, tmp_path, config(num_steps=2))
    with pytest.raises(ValueError, match=message):
        fit(net(), waters, tmp_path, config(**change))


@pytest.mark.parametrize('column, row', [('z', 40), ('pos', 71), ('ptr', None)])
def test_other_data_of_the_same_size_are_another_training(net, waters, tmp_path, column, row):
    fit(net(), waters, tmp_path, config(num_steps=2))
    columns = dict(z=waters.z.clone(), pos=waters.pos.clone(), ptr=waters.ptr.clone())
    if column == 'ptr':
        columns['ptr'][5] += 1
    else:
        columns[column][row] += 1
    with pytest.raises(ValueError, match=r"holds a training with data = [0-9a-f]{12}… \(got [0-9a-f]{12}…\)"):
        fit(net(), PackedMolecules(**columns), tmp_path, config())


def test_another_model_is_another_training(script, tmp_path):
    model, data, fit_config = script[1]()
    fit(model, data, tmp_path, replace(fit_config, num_steps=1))
    for field, other in (('dropout', 0.2), ('channels', 32)):
        changed = InertialAR(**(model.config.to_dict() | {field: other}))
        with pytest.raises(ValueError, match=rf'holds a training with model.{field} = .* \(got {other}\)'):
            fit(changed, data, tmp_path, fit_config)


def test_other_weights_of_a_loss_are_another_training(net, waters, tmp_path):
    a, b = net(), net()
    a.scale, b.scale = 1.0, 2.0
    fit(a, waters, tmp_path, config(num_steps=2))
    with pytest.raises(ValueError, match=r'holds a training with settings.scale = 1.0 \(got 2.0\)'):
        fit(b, waters, tmp_path, config())


def test_how_long_and_how_often_may_change(net, waters, tmp_path):
    fit(net(), waters, tmp_path, config(num_steps=2))
    fit(net(), waters, tmp_path, config(num_steps=4, save_every=1, log_every=2, accumulate=2, max_minutes=5.0))
    assert load_checkpoint(tmp_path)['step'] == 4


def test_a_torn_log_without_a_checkpoint_blocks_nothing(net, waters, tmp_path):
    (tmp_path / 'log.jsonl').write_text('{"step": 1, "total": 1.5}\n[]\n{"step": 2, "tot')
    for num_steps in (3, 5):
        fit(net(), waters, tmp_path, config(num_steps=num_steps))
        assert [line['step'] for line in log_of(tmp_path)] == list(range(1, num_steps + 1))


def test_damage_within_the_log_costs_that_line(net, waters, tmp_path):
    fit(net(), waters, tmp_path, config(num_steps=4))
    log = tmp_path / 'log.jsonl'
    lines = log.read_bytes().split(b'\n')
    lines[1] = lines[1][:7] + b'\xff\x00' + lines[1][9:]
    log.write_bytes(b'\n'.join(lines))
    fit(net(), waters, tmp_path, config(num_steps=6))
    assert [line['step'] for line in log_of(tmp_path)] == [1, 3, 4, 5, 6]


def test_a_flipped_bit_costs_the_steps_since_the_checkpoint_before(net, waters, tmp_path):
    whole = weights_of(fit(net(noise=0.1), waters, tmp_path, config()))
    path = tmp_path / 'checkpoint-000000012.pt'
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    (tmp_path / '.checkpoint-000000013.pt.0a0b0c0d-77.part').write_bytes(b'of a killed process')
    with pytest.warns(UserWarning, match=r'checkpoint-000000012.pt.* is passed over: its SHA-256 is not'):
        again = fit(net(noise=0.1), waters, tmp_path, config())
    assert torch.equal(weights_of(again), whole)
    assert (tmp_path / 'checkpoint-000000012.pt.damaged').read_bytes() == content  # set aside, not lost
    assert not list(tmp_path.glob('.*.part'))


def test_a_newest_checkpoint_of_another_kind_is_passed_over(net, waters, tmp_path):
    whole = weights_of(fit(net(), waters, tmp_path, config()))
    save_checkpoint(dict(step=13, model=dict(x=torch.zeros(2))), tmp_path)
    with pytest.warns(UserWarning, match=r'checkpoint-000000013.pt.* is passed over: it is of another kind'):
        assert torch.equal(weights_of(fit(net(), waters, tmp_path, config())), whole)


def test_two_trainings_cannot_share_a_folder(net, waters, tmp_path):
    with locked_folder(tmp_path), pytest.raises(ValueError, match=r"is in use by another process \(process \d+ on"):
        fit(net(), waters, tmp_path, config())
    assert os.listdir(tmp_path) == ['.lock']


def test_a_checkpoint_that_cannot_be_written_on_the_way_is_a_warning(net, waters, tmp_path, monkeypatch):
    save, full = torch.save, [True]

    def sometimes(state, path):
        if full[0] and state['step'] in (5, 10):
            raise RuntimeError('PytorchStreamWriter failed writing file')
        save(state, path)
    monkeypatch.setattr(torch, 'save', sometimes)
    five = r'the checkpoint of step 5 cannot be written to .* \(PytorchStreamWriter .*\); the training goes on'
    with pytest.warns(UserWarning, match=five), pytest.raises(OSError, match=r'step 10 .* still there'):
        fit(net(), waters, tmp_path / 'a', config(num_steps=10, save_every=5))
    assert load_checkpoint(tmp_path / 'a') is None
    with pytest.raises(OSError, match=r'step 10 cannot be written .*; the one before is still there'):
        fit(net(), waters, tmp_path / 'b', config(num_steps=10, save_every=4))
    assert load_checkpoint(tmp_path / 'b')['step'] == 8
    full[0] = False
    again, whole = (weights_of(fit(net(), waters, tmp_path / name, config(num_steps=10))) for name in 'bc')
    assert torch.equal(again, whole)


def test_a_full_disk_loses_no_whole_line_of_the_log(tmp_path):
    path = tmp_path / 'log.jsonl'
    append_record(path, dict(step=1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
    try:
        with pytest.warns(UserWarning, match=r"a line of '.*log.jsonl' is lost: "):
            append_record(path, dict(step=2, total=1.0))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == '{"step": 1}\n'


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGINT'])
def test_a_training_that_is_told_to_stop_loses_no_step(script, uninterrupted, tmp_path, capsys, name):
    calls = []

    def augment(batch, generator):
        calls.append(1)
        if len(calls) == 6:
            os.kill(os.getpid(), getattr(signal, name))
        return batch
    model, data, fit_config = script[1]()
    if name == 'SIGINT':
        with pytest.raises(KeyboardInterrupt):
            fit(model, data, tmp_path, fit_config, augment=augment)
    else:
        record = fit(model, data, tmp_path, fit_config, augment=augment).training_record
        assert (record['steps'], record['stopped_by']) == (6, 'SIGTERM')
    assert f'{name}: the training stops after this step' in capsys.readouterr().err
    assert load_checkpoint(tmp_path)['step'] == 6
    model, data, fit_config = script[1]()
    resumed = fit(model, data, tmp_path, fit_config)
    assert torch.equal(weights_of(resumed), uninterrupted[0]) and 'stopped_by' not in resumed.training_record


def test_a_second_sigterm_does_nothing_and_a_second_sigint_acts_at_once():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)  # from the scheduler and from torchrun
        assert stop.name == 'SIGTERM'
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert stop.name == 'SIGTERM'
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


# The state of the process -------------------------------------------------------------------------------------------

@pytest.mark.parametrize('state', ['default dtype', 'inference mode', 'no grad'])
def test_the_state_of_the_process_does_not_stop_a_training(script, tmp_path, state):
    model, data, fit_config = script[1]()
    before = weights_of(model).clone()
    fit_config = replace(fit_config, num_steps=2)
    torch.set_default_dtype(torch.float64 if state == 'default dtype' else torch.float32)
    try:
        with torch.inference_mode(state == 'inference mode'), torch.set_grad_enabled(state == 'default dtype'):
            trained = fit(model, data, tmp_path, fit_config, augment=RandomPose(180.0, 0.5))
    finally:
        torch.set_default_dtype(torch.float32)
    assert trained.training_record['steps'] == 2 and not torch.equal(weights_of(trained), before)
    assert {p.dtype for p in trained.parameters()} == {torch.float32}
    assert not any(p.is_inference() for p in trained.parameters())


def test_a_model_made_in_inference_mode_cannot_be_trained(script, tmp_path):
    with torch.inference_mode():
        model, data, fit_config = script[1]()
    with pytest.raises(ValueError, match=r'was made under torch.inference_mode, where nothing has derivatives'):
        fit(model, data, tmp_path, fit_config)
