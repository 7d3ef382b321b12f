"""The subcommands that write, grow and score molecules, on small untrained models."""
import json
import os
import re
import signal
import warnings

import pytest
import torch
from torch_geometric.data import Batch

from torch_geometric_inertial import InertialAR, Quetzal, from_smiles
from torch_geometric_inertial.chem import read_jsonl, read_sdf, read_xyz, write_jsonl, write_sdf, write_xyz
from torch_geometric_inertial.cli.files import write_molecules
from torch_geometric_inertial.cli.interrupt import Stopped
from torch_geometric_inertial.cli.main import main
from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.nn.atom_vocabulary import atom_types_of
from torch_geometric_inertial.training import load_checkpoint


@pytest.fixture
def molecules(tmp_path):
    write_sdf(list(QM9Sample()[:3]), tmp_path / 'three.sdf')
    return tmp_path / 'three.sdf'


def test_generate_in_shards_is_generate_at_once(weights, tmp_path):
    whole, parts = tmp_path / 'whole.jsonl', [tmp_path / f'{i}.jsonl' for i in range(2)]
    common = ['generate', '5', f'--weights={weights}', '--num-steps=2', '--max-atoms=6']
    assert main([*common, f'--out={whole}']) == 0
    for i, part in enumerate(parts):
        assert main([*common, f'--out={part}', f'--shard={i}/2']) == 0
    written = [data for part in parts for data in read_jsonl(part)]
    assert [data.title for data in written] == [f'molecule {i}' for i in range(5)]
    for a, b in zip(read_jsonl(whole), written, strict=True):
        assert a.z.tolist() == b.z.tolist()
        torch.testing.assert_close(a.pos, b.pos, atol=1e-3, rtol=0)


@pytest.mark.parametrize('number', [['3'], ['--num-samples=3'], ['--num-samples', '3'], ['--num_samples=3']])
def test_the_number_of_molecules_has_a_name_and_may_stand_alone(weights, tmp_path, number):
    out = tmp_path / 'new.jsonl'
    assert main(['generate', *number, f'--weights={weights}', f'--out={out}', '--num-steps=2', '--max-atoms=3']) == 0
    assert len(read_jsonl(out)) == 3


def test_complete_takes_groups_and_properties(valued, weights, tmp_path, capsys):
    part = tmp_path / 'part.xyz'
    write_xyz([QM9Sample()[3].subgraph(torch.tensor([0, 1]))], part)
    common = ['complete', str(part), '--num-samples=2', f'--out={tmp_path / "out.jsonl"}', '--num-steps=2',
              '--max-atoms=6']
    assert main([*common, f'--weights={valued}', '--properties.homo=-6.5', '--guidance-scale=2']) == 0
    wanted = Quetzal.from_pretrained(valued).complete(read_xyz(part)[0], 2, properties=dict(homo=-6.5), num_steps=2,
                                                      max_atoms=6, guidance_scale=2.0)
    for a, b in zip(read_jsonl(tmp_path / 'out.jsonl'), wanted, strict=True):
        torch.testing.assert_close(a.pos, b.pos, atol=1e-3, rtol=0)
    assert main([*common, f'--weights={weights}', '--groups=[amine]']) == 0
    assert main([*common, f'--weights={weights}', '--groups=[ester]']) == 1 and 'ester' in capsys.readouterr().err


@pytest.mark.parametrize('written, groups', [('amine', ['amine']), ('alcohol,amine', ['alcohol', 'amine']),
                                             ('[alcohol, amine]', ['alcohol', 'amine'])])
def test_groups_are_asked_for_by_name(weights, tmp_path, written, groups):
    out = tmp_path / 'new.jsonl'
    assert main(['generate', '2', f'--weights={weights}', f'--out={out}', '--groups', written, '--num-steps=2',
                 '--max-atoms=5']) == 0
    wanted = InertialAR.from_pretrained(weights).generate(2, groups=groups, num_steps=2, max_atoms=5)
    for a, b in zip(read_jsonl(out), wanted, strict=True):
        torch.testing.assert_close(a.pos, b.pos, atol=1e-3, rtol=0)


def test_generate_with_groups_writes_xyz(weights, tmp_path, capsys):
    out = tmp_path / 'new.xyz'
    assert main(['generate', '2', f'--weights={weights}', f'--out={out}', '--groups=[amine]', '--num-steps=2',
                 '--max-atoms=5', '--guidance-scale=2']) == 0
    assert f'wrote 2 molecules to {out}' in capsys.readouterr().out and len(read_xyz(out)) == 2


@pytest.mark.parametrize('spelling', ['--properties={homo: -6.5}', '--properties.homo=-6.5'])
def test_generate_with_a_wanted_value(valued, tmp_path, spelling):
    out = [tmp_path / f'{i}.jsonl' for i in range(2)]
    common = ['generate', '3', f'--weights={valued}', '--num-steps=2', '--max-atoms=6']
    assert main([*common, f'--out={out[0]}', spelling]) == main([*common, f'--out={out[1]}']) == 0
    model = Quetzal.from_pretrained(valued)
    wanted = model.generate(3, properties=dict(homo=-6.5), num_steps=2, max_atoms=6)
    for a, b in zip(read_jsonl(out[0]), wanted, strict=True):
        torch.testing.assert_close(a.pos, b.pos, atol=1e-3, rtol=0)
    assert out[0].read_text() != out[1].read_text()


@pytest.mark.parametrize('arguments, message', [
    (['--shard=2'], r"'shard' must be 'i/n' (got '2')"),
    (['--shard=2/2'], "'shard' must be (i, n) with 0 <= i < n (got (2, 2))"),
    (['--out=new.pdf'], "'new.pdf' must end in one of .sdf, .xyz, .jsonl"),
    (['--groups=[ester]'], 'ester'),
    (['--properties.gap=6.5'], "the model does not know the property 'gap' (it knows none)"),
    (['--temperature=-1'], "'temperature' must not be negative (got -1.0)"),
])
def test_mistakes_in_generate(weights, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(['generate', '1', f'--weights={weights}', '--num-steps=2', *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_complete_keeps_the_part(weights, tmp_path):
    part = tmp_path / 'part.xyz'
    write_xyz([QM9Sample()[3].subgraph(torch.tensor([0, 1]))], part)
    out = tmp_path / 'completed.sdf'
    assert main(['complete', str(part), '--num-samples=3', f'--weights={weights}', f'--out={out}', '--num-steps=2',
                 '--max-atoms=8']) == 0
    given = read_xyz(part)[0]
    for data in read_sdf(out):
        assert data.z[:2].tolist() == given.z.tolist()
        torch.testing.assert_close(data.pos[:2], given.pos, atol=1e-3, rtol=0)


def test_hydrogens_adds_nothing_else(heavy_first, tmp_path, capsys):
    data = QM9Sample()[5]
    heavy = data.subgraph(data.z > 1)
    write_xyz([heavy, heavy], tmp_path / 'heavy.xyz')
    out = tmp_path / 'whole.sdf'
    assert main(['hydrogens', str(tmp_path / 'heavy.xyz'), f'--weights={heavy_first}', f'--out={out}',
                 '--num-steps=2']) == 0
    written = read_sdf(out)
    assert len(written) == 2 and 'new hydrogens' in capsys.readouterr().out
    assert all((whole.z > 1).sum() == heavy.z.numel() for whole in written)


def test_score_prints_and_writes_each_molecule(weights, molecules, tmp_path, capsys):
    out = tmp_path / 'scores.jsonl'
    assert main(['score', str(molecules), f'--weights={weights}', '--num-steps=2', f'--json={out}']) == 0
    printed = capsys.readouterr().out
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line['number'] for line in lines] == [0, 1, 2]
    for line, data in zip(lines, QM9Sample()[:3], strict=True):
        assert len(line['coord']) == data.z.numel()
        terms = sum(line['type']) + sum(line['coord']) + sum(line['bond']) + sum(line['stop'])
        assert line['total'][0] == pytest.approx(terms, rel=1e-6)
        assert f"{line['total'][0]:.3f}" in printed


def test_score_names_what_it_cannot_read_and_goes_on(weights, tmp_path, capsys):
    good = QM9Sample()[0]
    strange = good.clone()
    strange.z = strange.z.clone()
    strange.z[0] = 14
    write_xyz([strange, good], tmp_path / 'two.xyz')
    assert main(['score', str(tmp_path / 'two.xyz'), f'--weights={weights}', '--num-steps=2']) == 0
    out, err = capsys.readouterr()
    assert 'got Si with' in err and 'molecule 0' in err
    assert len(out.splitlines()) == 2


def test_train_goes_on_where_it_was_and_writes_weights(molecules, tmp_path, capsys):
    common = ['train', f'--file={molecules}', '--model=Quetzal', f'--out={tmp_path / "run"}',
              '--changes={channels: 32, heads: 2, num_layers: 2, head_channels: 16, coord_features: 8, '
              'head_features: 8, order: traverse}', '--fit_config.batch_size=2']
    assert main([*common, '--fit_config.num_steps=2']) == 0
    assert main([*common, '--fit_config.num_steps=3']) == 0
    assert 'learns from 3 molecules' in capsys.readouterr().out
    steps = sorted(path.name for path in (tmp_path / 'run' / 'checkpoints').glob('checkpoint-*.pt'))
    assert steps[-1] == 'checkpoint-000000003.pt'
    assert Quetzal.from_pretrained(tmp_path / 'run' / 'model').config.order == 'traverse'


def test_train_learns_walks_along_bonds(molecules, tmp_path):
    """So that `complete` can go on from a part."""
    assert main(['train', f'--file={molecules}', f'--out={tmp_path / "run"}', TINY, '--fit_config.num_steps=8',
                 '--fit_config.batch_size=3']) == 0
    assert InertialAR.from_pretrained(tmp_path / 'run' / 'model').network.graph.walk.any()


def test_train_learns_groups(molecules, tmp_path):
    assert main(['train', f'--file={molecules}', f'--out={tmp_path / "run"}', '--groups=qm9',
                 '--changes={channels: 32, heads: 2, graph_layers: 1, place_layers: 1, head_channels: 16}',
                 '--fit_config.batch_size=2', '--fit_config.num_steps=1']) == 0
    config = json.loads((tmp_path / 'run' / 'model' / 'config.json').read_text())['config']
    assert config['num_groups'] == 20 and 'alcohol' in ' '.join(config['group_names'])


TINY = '--changes={channels: 32, heads: 2, graph_layers: 1, place_layers: 1, head_channels: 16}'


def test_train_that_time_ends_says_so_everywhere(molecules, tmp_path):
    assert main(['train', f'--file={molecules}', f'--out={tmp_path}', TINY, '--fit_config.batch_size=2',
                 '--fit_config.max_minutes=0.02']) == 0
    facts = json.loads((tmp_path / 'model' / 'config.json').read_text())
    done = json.loads((tmp_path / 'checkpoints' / 'training.json').read_text())['done']
    steps = load_checkpoint(tmp_path / 'checkpoints')['step']
    assert 0 < steps < 10_000 and facts['training'] == done and done['steps'] == steps
    assert facts['data'] == 'three.sdf' and facts['training_domain']['num_atoms'] == [4, 7]
    card = (tmp_path / 'model' / 'README.md').read_text()
    assert all(f'- {name}: {value}\n' in card for name, value in done.items()) and '- data: three.sdf\n' in card


def with_items(path, items):
    """Three molecules of QM9 as SDF, each with the data items of its place."""
    write_sdf(list(QM9Sample()[:3]), path)
    records = path.read_text().split('$$$$\n')[:3]
    path.write_text(''.join(record + ''.join(f'>  <{name}>  (1)\n{value}\n\n' for name, value in own.items())
                            + '$$$$\n' for record, own in zip(records, items, strict=True)))
    return path


def test_train_learns_values_of_an_sdf_file(tmp_path):
    file = with_items(tmp_path / 'own.sdf', [dict(gap=5.5, mu=1), dict(mu=2, gap=''), dict(gap=7.25, mu='3.0')])
    assert main(['train', f'--file={file}', f'--out={tmp_path / "run"}', '--properties=[mu, gap]', TINY,
                 '--fit_config.batch_size=2', '--fit_config.num_steps=1']) == 0
    condition = InertialAR.from_pretrained(tmp_path / 'run' / 'model').condition
    assert condition.property_names == ('mu', 'gap')
    assert condition.property_low.tolist() == [1, 5.5] and condition.property_high.tolist() == [3, 7.25]
    assert condition.property_mean.tolist() == [2, 6.375]  # a gap is not known


def test_train_learns_values_of_json_lines(tmp_path):
    molecules = [data.clone() for data in QM9Sample()[:3]]
    for data, value in zip(molecules, (1.5, 2, 4.0), strict=True):
        data.weight = value
    write_jsonl(molecules, tmp_path / 'own.jsonl')
    common = ['train', f'--file={tmp_path / "own.jsonl"}', f'--out={tmp_path / "run"}', TINY,
              '--fit_config.batch_size=2', '--fit_config.num_steps=1']
    assert main([*common, '--properties=[weight]']) == 0
    condition = InertialAR.from_pretrained(tmp_path / 'run' / 'model').condition
    assert condition.property_low.tolist() == [1.5] and condition.property_high.tolist() == [4]


@pytest.mark.parametrize('asked', ['logp', '[logp]', 'gap,logp'])
def test_a_property_that_no_molecule_has_is_named(asked, tmp_path, capsys):
    file = with_items(tmp_path / 'own.sdf', [dict(gap=5.5, mu=1), dict(gap=2), dict(gap=7.25)])
    assert main(['train', f'--file={file}', f'--out={tmp_path / "run"}', TINY, '--properties', asked]) == 2
    assert "none has 'logp' (they have gap, mu)" in capsys.readouterr().err
    assert main(['train', f'--out={tmp_path / "run"}', TINY, '--properties=mass']) == 2
    assert "none has 'mass' (they have gap, homo)" in capsys.readouterr().err


@pytest.mark.parametrize('values, message', [
    (('a', 'b', 'c'), "<weight> must be a finite number (got 'a')"),
    ((1.0, 1.0, 1.0), "property 'weight' must have two different values or more, all finite (got [1.0])"),
])
def test_mistakes_in_properties(tmp_path, capsys, values, message):
    molecules = [data.clone() for data in QM9Sample()[:3]]
    for data, value in zip(molecules, values, strict=True):
        data.weight = value
    write_jsonl(molecules, tmp_path / 'own.jsonl')
    assert main(['train', f'--file={tmp_path / "own.jsonl"}', f'--out={tmp_path / "run"}', TINY,
                 '--properties=[weight]']) == 1
    assert message in capsys.readouterr().err


def test_one_bad_molecule_of_three_does_not_stop_the_others(tmp_path, capsys):
    file = tmp_path / 'm.xyz'
    file.write_text('2\nmethanol\nC 0 0 0\nO 1.42 0 0\n2\nthiol\nC 0 0 0\nS 1.82 0 0\n2\nethane\nC 0 0 0\nC 1.53 0 0\n')
    assert main(['hydrogens', str(file), f'--out={tmp_path / "h.sdf"}']) == 0
    assert '1 thiol: ' in capsys.readouterr().err
    written = read_sdf(tmp_path / 'h.sdf')
    assert [(data.title, data.z.numel()) for data in written] == [('methanol', 6), ('ethane', 8)]
    assert main(['complete', str(file), '--num-samples=2', f'--out={tmp_path / "c.sdf"}']) == 0
    assert '1 thiol: ' in capsys.readouterr().err
    assert [data.title for data in read_sdf(tmp_path / 'c.sdf')] == ['methanol, 0', 'methanol, 1', 'ethane, 0',
                                                                    'ethane, 1']


NAPHTHALENE = from_smiles('c1ccc2ccccc2c1')
LARGE = 'has 10 heavy atoms; the training molecules had 1 to 9'


@pytest.mark.parametrize('command, name, option', [
    ('hydrogens', 'molecule 2', []), ('complete', "'scaffold'", ['--num-samples=1']), ('score', 'molecule 0', [])])
def test_molecules_larger_than_those_of_the_training_are_named(command, name, option, tmp_path, capsys):
    pair = [from_smiles('CO'), NAPHTHALENE]
    if command != 'score':
        pair = [data.subgraph(data.z > 1) for data in pair]
    pair[1].title = 'naphthalene'
    for data in pair:
        write_xyz([data], tmp_path / f'{data.title}.xyz')
    small, large = ((tmp_path / f'{data.title}.xyz').read_text() for data in pair)
    (tmp_path / 'three.xyz').write_text(f'{small}1\nbroken\nC 0 0\n{large}')
    arguments = [command, str(tmp_path / 'three.xyz'), '--num-steps=2', *option]
    arguments += [] if command == 'score' else [f'--out={tmp_path / "out.sdf"}']
    for strict in ([], ['--strict']):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            assert main([*arguments, *strict]) == 0
        out, err = capsys.readouterr()
        told = err + ''.join(str(w.message) for w in caught)
        assert (f'{name} {LARGE}' in told and 'the model may be wrong there' in told) or strict
        if strict or command != 'hydrogens':
            assert f'     2 naphthalene: {name} {LARGE}' in err
        if command != 'score':
            assert [data.title.split(',')[0] for data in read_sdf(tmp_path / 'out.sdf')] == [
                'CO', 'naphthalene'][:1 if strict else 2]
        else:
            assert len(out.splitlines()) == (2 if strict else 3)


@pytest.mark.parametrize('command', ['hydrogens', 'complete', 'score'])
def test_no_result_is_status_1_and_an_old_file_stays(command, tmp_path, capsys):
    (tmp_path / 'cu.xyz').write_text('1\nx\nCu 0 0 0\n')
    (tmp_path / 'old.sdf').write_text('precious')
    option = [] if command == 'score' else [f'--out={tmp_path / "old.sdf"}']
    assert main([command, str(tmp_path / 'cu.xyz'), *option]) == 1
    assert 'none of the' in capsys.readouterr().err and (tmp_path / 'old.sdf').read_text() == 'precious'


@pytest.mark.parametrize('device', ['foo', 'cuda:77'])
def test_a_device_that_is_not_there(device, capsys, tmp_path):
    assert main(['generate', '1', f'--device={device}', f'--out={tmp_path / "x.sdf"}']) == 2
    error = capsys.readouterr().err
    assert "'device' must be one that is there, cpu" in error and f"(got '{device}': " in error
    assert error.count('\n') == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize('arguments, message', [
    (['generate', '1', '--weights=nothing'], "must be a bundled model (ethanol, n-body, qm9, qm9-homo), a folder"),
    (['score', 'x.sdf', '--weights=nothing'], 'must be a bundled model'),
    (['train', '--preset=huge'], "'preset' must be one of tiny, small, base, paper (got 'huge')"),
    (['train', '--model=Quetzal', '--preset=medium'], "'preset' must be one of tiny, "),
    (['train', '--groups=qm10'], "must be one of qm9, drugs"),
])
def test_what_cannot_be_carried_out_is_one_line_and_status_2(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert message in err and err.count('\n') == 1 and out == '' and not list(tmp_path.iterdir())


def test_a_folder_of_another_preset_is_status_2(molecules, tmp_path, capsys):
    common = ['train', f'--file={molecules}', f'--out={tmp_path}', '--fit_config.batch_size=2',
              '--fit_config.num_steps=1']
    assert main([*common, TINY]) == 0
    assert main([*common, TINY.replace('32', '48')]) == 2
    assert 'model.channels = 32 (got 48)' in capsys.readouterr().err


@pytest.mark.parametrize('number, status', [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_keeps_what_was_written(number, status, tmp_path):
    def molecules():
        yield from QM9Sample()[:2]
        os.kill(os.getpid(), number)
        yield from QM9Sample()[2:4]

    with pytest.raises(Stopped) as stopped:
        write_molecules(molecules(), tmp_path / 'kept.sdf')
    assert stopped.value.status == status and len(read_sdf(tmp_path / 'kept.sdf')) == 2


def test_train_leaves_out_what_it_cannot_learn(tmp_path, capsys):
    strange = QM9Sample()[1].clone()
    strange.pos[0] += 9.0  # a bond of 9 Å
    strange.title = 'torn'
    write_sdf([QM9Sample()[0], strange, QM9Sample()[2]], tmp_path / 'own.sdf')
    assert main(['train', f'--file={tmp_path / "own.sdf"}', f'--out={tmp_path / "run"}', TINY,
                 '--fit_config.batch_size=2', '--fit_config.num_steps=1']) == 0
    out, err = capsys.readouterr()
    assert 'learns from 2 molecules' in out and "own.sdf: record 1 ('torn'): " in err


def test_train_finds_the_bonds_of_an_xyz_file(tmp_path):
    write_xyz(list(QM9Sample()[:3]), tmp_path / 'own.xyz')
    assert main(['train', f'--file={tmp_path / "own.xyz"}', f'--out={tmp_path / "run"}', TINY,
                 '--fit_config.batch_size=2', '--fit_config.num_steps=1']) == 0
    model = InertialAR.from_pretrained(tmp_path / 'run' / 'model')
    assert model.writes_bonds and set(model.config.atom_types) == {
        tuple(kind) for kind in atom_types_of(Batch.from_data_list(list(QM9Sample()[:3])))}


def test_train_names_the_generators_that_there_are(tmp_path, capsys):
    assert main(['train', '--model=GeoMFormer', f'--out={tmp_path / "run"}']) == 2
    assert re.search(r"'model' must be one of .*InertialAR, .*Quetzal.* \(got 'GeoMFormer'\)", capsys.readouterr().err)
