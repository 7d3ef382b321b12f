import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from torch_geometric_inertial.chem import write_sdf, write_xyz
from torch_geometric_inertial.cli.files import read_records
from torch_geometric_inertial.cli.main import main
from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.metrics.report import Report


@pytest.fixture
def file(tmp_path):
    write_xyz(list(QM9Sample()[:6]), tmp_path / 'six.xyz')
    return tmp_path / 'six.xyz'


def test_the_ending_decides(tmp_path):
    with pytest.raises(ValueError, match=r'must end in one of \.sdf, \.mol, \.xyz'):
        read_records(tmp_path / 'x.png')


def test_broken_records_are_left_out_by_number(file):
    file.write_text('1\nbroken\nXx 0 0 0\n' + file.read_text())
    with pytest.warns(UserWarning, match='record 0'):
        records = read_records(file)
    assert [record.number for record in records if record.molecule is not None] == [1, 2, 3, 4, 5, 6]


def test_a_file_without_molecules(tmp_path):
    (tmp_path / 'broken.xyz').write_text('1\nbroken\nXx 0 0 0\n')
    with pytest.warns(UserWarning, match='left out 1'), pytest.raises(ValueError, match='holds no molecule'):
        read_records(tmp_path / 'broken.xyz')


def test_evaluate_prints_and_writes_its_report(file, tmp_path, capsys):
    assert main(['evaluate', str(file), '--num-requested=8', '--json', str(tmp_path / 'r.json')]) == 0
    assert 'molecule stability' in capsys.readouterr().out
    report = Report.from_json((tmp_path / 'r.json').read_text())
    assert report.num_requested == 8 and report.status.count('missing') == 2 and len(report.status) == 8


@pytest.mark.parametrize('command', [['evaluate'], ['score', '--num-steps=1']], ids=lambda words: words[0])
def test_a_report_that_cannot_be_written_leaves_the_old_one(command, tmp_path, monkeypatch):
    write_sdf(list(QM9Sample()[:2]), tmp_path / 'two.sdf')
    report = tmp_path / 'report.json'
    report.write_text('old')
    words = [command[0], str(tmp_path / 'two.sdf'), *command[1:], f'--json={report}']

    def full(path, text, *args, **kwargs):
        with open(path, 'w') as file:
            file.write(text[:10])
        raise OSError(errno.ENOSPC, 'No space left on device', str(path))
    with monkeypatch.context() as patch:
        patch.setattr(Path, 'write_text', full)
        assert main(words) != 0
    assert report.read_text() == 'old' and sorted(os.listdir(tmp_path)) == ['report.json', 'two.sdf']
    assert main(words) == 0 and report.read_text() != 'old'


def test_evaluate_refuses_fewer_than_it_reads(file, capsys):
    assert main(['evaluate', str(file), '--num_requested', '5']) == 1
    assert "'num_requested' must be at least the number of molecules, 6 (got 5)" in capsys.readouterr().err


def test_view_writes_a_picture(file, tmp_path):
    assert main(['view', str(file), '--out', str(tmp_path / 'six.png'), '--num=2', '--columns=2']) == 0
    # names and legend are on unless they are refused
    assert main(['view', str(file), '--out', str(tmp_path / 'bare.png'), '--num=2', '--columns=2', '--names=false',
                 '--legend=false']) == 0
    heights = [int.from_bytes((tmp_path / f'{name}.png').read_bytes()[20:24], 'big') for name in ('bare', 'six')]
    assert heights[0] < heights[1]
    assert (tmp_path / 'six.png').read_bytes().startswith(b'\x89PNG')


def test_view_leaves_the_place_of_a_bad_record_empty(tmp_path):
    (tmp_path / 'three.xyz').write_text('1\nneon\nNe 0 0 0\n1\nbroken\nC 0 0 zero\n1\nhelium\nHe 0 0 0\n')
    with pytest.warns(UserWarning, match=r"record 1 \('broken'\)"):
        assert main(['view', str(tmp_path / 'three.xyz'), '--out', str(tmp_path / 'three.png'), '--columns=3']) == 0
    drawn = np.asarray(Image.open(tmp_path / 'three.png').convert('L'))[:260]
    assert drawn.shape[1] == 3 * 260
    assert [bool((drawn[:, i * 260:(i + 1) * 260] < 250).any()) for i in range(3)] == [True, False, True]


def test_view_draws_what_the_ending_says(file, tmp_path, capsys):
    from xml.etree import ElementTree

    assert main(['view', str(file), '--out', str(tmp_path / 'six.svg'), '--num=2']) == 0
    assert ElementTree.parse(tmp_path / 'six.svg').getroot().tag.endswith('svg')
    for arguments, message in ((['--out', str(tmp_path / 'six.gif')], "'out' must end in .png or .svg"),
                               (['--num=-1'], r"'num' must be at least 1 (got -1)")):
        assert main(['view', str(file), *arguments]) != 0
        assert message in capsys.readouterr().err
