r"""`inertial generate` with molecules that are drawn again and relaxed."""
import json
import re

import pytest
import torch

from torch_geometric_inertial import InertialAR
from torch_geometric_inertial.chem import read_molecules, read_sdf
from torch_geometric_inertial.cli.main import main
from torch_geometric_inertial.metrics import evaluate

pytest.importorskip('rdkit')


def test_generate_keeps_what_is_ok_and_relaxes_it(tmp_path, capsys):
    out = tmp_path / 'new.sdf'
    assert main(['generate', '4', '--keep=ok', '--relax=mmff', '--num-steps=4', f'--out={out}']) == 0
    assert 'molecules drawn failed (' in capsys.readouterr().err
    molecules = read_sdf(out)
    assert evaluate(molecules, 'bonds').ok == 1 and [data.title for data in molecules] == [
        f'molecule {i}' for i in range(4)]
    for data in molecules:
        places = [[float(x) for x in xyz.split()] for xyz in data.properties['pos_generated'].split(';')]
        moved = (torch.tensor(places) - data.pos).square().sum(1).mean().sqrt()
        assert float(moved) == pytest.approx(data.properties['rmsd'], abs=1e-3)
        assert data.properties['energy_drop'] > 0 and data.properties['attempt'] >= 0


def test_those_that_fail_in_all_attempts_keep_their_numbers(monkeypatch, weights, tmp_path):
    from torch_geometric_inertial.refinement import generate

    monkeypatch.setattr(generate, '_status', lambda model, molecules, workers: [
        'ok' if data.z.numel() % 2 else 'valence' for data in molecules])
    everything, kept = tmp_path / 'all.jsonl', tmp_path / 'kept.jsonl'
    common = ['generate', '12', f'--weights={weights}', '--num-steps=2', '--max-atoms=6', '--temperature=0.5']
    assert main([*common, f'--out={everything}']) == main([*common, '--keep=ok', f'--out={kept}']) == 0
    first = {data.title: data.pos for data in read_molecules(everything)}
    for data in read_molecules(kept):
        assert data.z.numel() % 2
        if data.properties['attempt'] == 0:
            torch.testing.assert_close(data.pos, first[data.title], atol=1e-3, rtol=0)


def test_places_and_bonds_can_be_drawn_otherwise(tmp_path):
    out = tmp_path / 'new.jsonl'
    assert main(['generate', '3', '--place-temperature=0.3', '--valence-mask=true', '--num-steps=4',
                 f'--out={out}']) == 0
    own = InertialAR.from_pretrained('qm9').generate(3, place_temperature=0.3, valence_mask=True, num_steps=4)
    for data, same in zip(read_molecules(out), own, strict=True):
        torch.testing.assert_close(data.pos, same.pos, atol=2e-3, rtol=0)


@pytest.mark.parametrize('arguments, message', [
    (['--keep=valid'], "'keep' must be one of all, ok (got 'valid')"),
    (['--relax=uff'], "the method of relaxation must be one of mmff, xtb (got 'uff')"),
    (['--workers=0'], "'workers' must be at least 1 (got 0)"),
    (['--animation=writing.mp4'], "'animation' must end in .gif or .html (got 'writing.mp4')"),
    (['--animation=writing.gif', '--max-atoms=5'], "'animation' cannot be given with 'max_atoms' (got 5)"),
    (['--animation=writing.gif', '--keep=ok'], "'animation' cannot be given with 'keep' (got 'ok')"),
])
def test_mistakes_in_generate(weights, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(['generate', '1', f'--weights={weights}', *arguments]) == 2
    assert capsys.readouterr().err == f'inertial generate: {message}\n' and not list(tmp_path.iterdir())


def test_a_file_of_none_that_is_ok_is_not_written(weights, tmp_path, capsys):
    assert main(['generate', '2', f'--weights={weights}', '--keep=ok', '--num-steps=2', '--max-atoms=4',
                 f'--out={tmp_path / "new.sdf"}']) == 1
    assert 'no molecule is left after 20 attempts: ' in capsys.readouterr().err
    assert not (tmp_path / 'new.sdf').exists()


def test_generate_shows_how_the_first_molecule_of_its_part_was_written(tmp_path, capsys):
    out, page = tmp_path / 'new.jsonl', tmp_path / 'writing.html'
    assert main(['generate', '4', '--shard=1/2', '--num-steps=3', f'--out={out}', f'--animation={page}']) == 0
    assert capsys.readouterr().out.endswith(f'wrote {page}\n')
    data = json.loads(re.search(r'id="data">(.*?)</script>', page.read_text(), re.DOTALL)[1])
    pos, places = read_molecules(out)[0].pos, torch.tensor(data['molecule']['pos'])
    torch.testing.assert_close(torch.cdist(places, places), torch.cdist(pos, pos), atol=5e-3, rtol=0)
    assert '>C' in page.read_text() and 'molecule 2 of seed 0' in page.read_text()
