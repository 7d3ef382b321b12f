r"""`inertial train`: going on from weights, molecules held out, curves."""
import json
import subprocess
import sys

import pytest
import torch

from torch_geometric_inertial import InertialAR, Quetzal, from_smiles
from torch_geometric_inertial.chem import read_sdf, write_sdf
from torch_geometric_inertial.cli.main import main
from torch_geometric_inertial.datasets import QM9Sample

pytest.importorskip('rdkit')
FAST = ['--fit_config.batch_size=4', '--fit_config.log_every=1', '--fit_config.num_steps=2']


@pytest.fixture
def file(tmp_path):
    molecules = [data for data in QM9Sample()[:60] if 9 not in data.z][:20]
    write_sdf([*molecules, from_smiles('FC(F)(F)CS')], tmp_path / 'own.sdf')
    return tmp_path / 'own.sdf'


def log_of(folder):
    return [json.loads(line) for line in (folder / 'checkpoints' / 'log.jsonl').read_text().splitlines()]


def test_going_on_from_weights_with_new_atoms(file, tmp_path, capsys):
    out = tmp_path / 'tuned'
    assert main(['train', f'--file={file}', '--start=qm9', '--validation=0.2', f'--out={out}', *FAST,
                 '--fit_config.lr=1e-9', '--fit_config.evaluate_every=1']) == 0
    assert 'learns from 17 molecules, 4 held out' in capsys.readouterr().out
    start, tuned = InertialAR.from_pretrained('qm9'), InertialAR.from_pretrained(out / 'model')
    assert tuned.config.channels == start.config.channels and set(tuned.elements) == {1, 6, 7, 8, 9, 16}
    count = len(start.config.atom_types)  # nearly no step was taken, so the weights are those of the start
    torch.testing.assert_close(tuned.network.placer.type_embedding.weight[:count],
                               start.network.placer.type_embedding.weight, atol=1e-4, rtol=0)
    assert tuned.condition.property_names == ('homo', 'gap') and torch.equal(tuned.condition.property_mean,
                                                                             start.condition.property_mean)
    facts = json.loads((out / 'model' / 'config.json').read_text())
    assert facts['start'] == 'qm9' and facts['validation']['num_molecules'] == 4
    assert facts['validation']['val_total'] == pytest.approx(log_of(out)[-1]['val_total'], rel=1e-3)
    assert len(tuned.generate(2, groups='alcohol', num_steps=2)) == 2


def test_the_bar_says_how_much_of_the_time_is_over(file, tmp_path, capsys):
    assert main(['train', f'--file={file}', '--changes={channels: 32, heads: 2}', f'--out={tmp_path / "run"}',
                 *FAST[:2], '--fit_config.num_steps=4', '--fit_config.max_minutes=60']) == 0
    assert 'done=100%' in capsys.readouterr().err


def test_what_was_held_out_is_in_the_log_and_in_the_picture(file, tmp_path):
    out, tiny = tmp_path / 'own', '--changes={channels: 32, heads: 2, graph_layers: 1, place_layers: 1}'
    common = ['train', f'--file={file}', tiny, '--validation=0.2', f'--out={out}', *FAST[:2]]
    assert main([*common, '--fit_config.num_steps=2', '--fit_config.evaluate_every=1', '--tensorboard']) == 0
    assert [record['step'] for record in log_of(out) if 'val_total' in record] == [1, 2]
    assert (out / 'training.png').read_bytes().startswith(b'\x89PNG') and list((out / 'tensorboard').iterdir())
    assert main([*common, '--fit_config.num_steps=4', '--fit_config.save_every=2']) == 0
    assert [record['step'] for record in log_of(out) if 'val_total' in record] == [1, 2, 4]
    assert main([*common[:3], f'--out={out}', '--validation=0', *FAST[:2], '--fit_config.num_steps=5']) == 2


def test_what_the_model_writes_on_the_way_is_judged(file, tmp_path):
    out, tiny = tmp_path / 'own', '--changes={channels: 32, heads: 2, graph_layers: 1, place_layers: 1}'
    assert main(['train', f'--file={file}', tiny, '--validation=0', '--samples=5', f'--out={out}', *FAST,
                 '--fit_config.evaluate_every=1', '--tensorboard']) == 0
    records = [record for record in log_of(out) if 'sample_ok' in record]
    assert [record['step'] for record in records] == [1, 2]
    assert all(0 <= 5 * record[name] <= 5 and (5 * record[name]) % 1 == pytest.approx(0) for record in records
               for name in ('sample_ok', 'sample_validity', 'sample_connected'))
    assert (out / 'training.png').read_bytes().startswith(b'\x89PNG')


def test_a_model_without_bonds_goes_on_with_atoms_that_it_knows(heavy_first, file, tmp_path, capsys):
    common = ['train', f'--file={file}', f'--start={heavy_first}', f'--out={tmp_path / "tuned"}', *FAST]
    assert main(common) == 2
    assert "'start' write no bonds, and can learn of no other elements than [1, 6, 7, 8] (the file has [9, 16])" in \
        capsys.readouterr().err
    write_sdf(read_sdf(file)[:20], file)
    assert main(common) == 0
    assert Quetzal.from_pretrained(tmp_path / 'tuned' / 'model').config == Quetzal.from_pretrained(heavy_first).config
    write_sdf([from_smiles('CCCCCCCC')], file)
    assert main([*common, '--fit_config.batch_size=1']) == 2
    assert 'molecules of less than 24 atoms alone (the file has one of 26)' in capsys.readouterr().err


def test_values_go_on_in_the_units_of_the_weights(file, tmp_path):
    molecules = read_sdf(file)
    for i, data in enumerate(molecules[:-1]):
        data.properties['gap'] = 5.0 + 0.1 * i
    write_sdf(molecules, file)
    assert main(['train', f'--file={file}', '--start=qm9', '--properties=gap', f'--out={tmp_path / "x"}', *FAST]) == 0
    assert InertialAR.from_pretrained(tmp_path / 'x' / 'model').condition.property_names == ('homo', 'gap')


@pytest.mark.parametrize('arguments, message', [
    (['--start=qm10'], "'name_or_folder' must be a bundled model ("),
    (['--start=qm9-homo'], "holds a model of class 'PaiNN' (asked for 'AtomAutoregressor')"),
    (['--start=qm9', '--preset=small'], "'preset' cannot be given with 'start', whose weights settle it (got 'small')"),
    (['--start=qm9', '--changes={channels: 96}'], "'changes' cannot be given with 'start'"),
    (['--start=qm9', '--groups=qm9'], "'groups' cannot be given with 'start'"),
    (['--start=qm9', '--model=Quetzal'], "'model' cannot be given with 'start'"),
    (['--start=qm9', '--properties=mu'], "'properties' must be some of those of 'qm9', homo, gap (got 'mu')"),
    (['--samples=-1'], "'samples' must not be negative (got -1)"),
    (['--validation=1'], "'validation' must be in [0, 1) (got 1.0)"),
])
def test_mistakes(arguments, message, file, tmp_path, capsys):
    assert main(['train', f'--file={file}', f'--out={tmp_path / "run"}', *arguments, *FAST]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1 and not (tmp_path / 'run').exists()


@pytest.mark.parametrize('missing, status, message', [
    ('torch.utils.tensorboard', 2, "inertial train: 'tensorboard' needs TensorBoard: pip install tensorboard\n"),
    ('matplotlib.figure', 0, 'no curves are drawn: curves need Matplotlib: pip install matplotlib\n'),
])
def test_a_missing_package_is_named_and_the_weights_are_written_all_the_same(missing, status, message, file, tmp_path):
    words = ['train', f'--file={file}', '--changes={channels: 32, heads: 2}', f'--out={tmp_path / "run"}', *FAST]
    words += ['--tensorboard'] if 'tensorboard' in missing else []
    code = f'import sys; sys.modules[{missing!r}] = None\n' \
        f'from torch_geometric_inertial.cli.main import main; sys.exit(main({words!r}))'
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.returncode == status and result.stderr.endswith(message)
    assert (tmp_path / 'run' / 'model').exists() == (status == 0)
