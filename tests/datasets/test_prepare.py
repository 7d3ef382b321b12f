r"""From files of molecules to a store, whatever comes between."""
import functools
import os
import signal
from pathlib import Path

import pytest
import torch

from torch_geometric_inertial.chem import write_jsonl, write_sdf
from torch_geometric_inertial.datasets import QM9Sample, prepare
from torch_geometric_inertial.files import locked_folder
from torch_geometric_inertial.transforms import canonical

pytest.importorskip('pyarrow', reason='stores need pyarrow (pip install pyarrow)')
PIECE = 20_000  # about 14 molecules


@pytest.fixture(scope='module')
def source(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp('source') / 'molecules.sdf'
    molecules = [QM9Sample()[i].clone() for i in range(60)]
    for i, data in enumerate(molecules):
        data.title = f'molecule {i}'
    write_sdf(molecules, path)
    return path


@pytest.fixture(scope='module')
def store(source, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('store') / 'store'
    prepare([source], root, num_workers=0, piece_bytes=PIECE)
    return root


def shards(root: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(root.glob('*.arrow'))]


def stop_at(batch, folder: Path, number: int, how: str) -> None:
    r"""Stops, or kills the process, at the batch of this number; counts batches as files."""
    done = len(list(folder.iterdir()))
    (folder / f'{done}-{os.getpid()}').touch()
    if done == number:
        if how == 'kill':
            os.kill(os.getpid(), signal.SIGKILL)
        raise KeyboardInterrupt


def test_the_store_holds_the_molecules_in_canonical_form(source, store):
    data = prepare([source], store, num_workers=0, piece_bytes=PIECE)  # it is there, and is opened
    expected = [canonical()(QM9Sample()[i]) for i in range(60)]
    assert len(data) == 60 and data.report['read'] == 60 and data.report['num_dropped'] == 0
    for i, (got, want) in enumerate(zip(data, expected, strict=True)):
        assert got.identifier == f'molecule {i}' and got.z.equal(want.z)
        torch.testing.assert_close(got.pos, want.pos, atol=2e-4, rtol=0)  # four digits of an SDF file


def test_what_is_left_out_is_counted_by_reason(source, tmp_path):
    records = source.read_text().split('$$$$\n')
    records[7] = records[7].replace(' C ', ' Xx', 1)
    (tmp_path / 'a.sdf').write_text('$$$$\n'.join(records))
    hydrogen = QM9Sample()[0].clone()
    hydrogen.z, hydrogen.pos = torch.ones(2, dtype=torch.long), torch.tensor([[0.0, 0, 0], [0.74, 0, 0]])
    for name in ('edge_index', 'edge_attr', 'formal_charge'):
        del hydrogen[name]
    write_jsonl([QM9Sample()[0], hydrogen], tmp_path / 'b.jsonl')
    data = prepare([tmp_path / 'a.sdf', tmp_path / 'b.jsonl'], tmp_path / 'store', max_atoms=25, num_workers=0)
    large = sum(QM9Sample()[i].num_nodes > 25 for i in range(60) if i != 7)
    told = data.report['dropped']
    assert data.report['read'] == 62 and len(data) == 62 - data.report['num_dropped']
    assert told['nothing but hydrogens']['count'] == 1
    assert sum(one['count'] for one in told.values()) == large + 2
    assert any("record 7 ('molecule 7')" in example for one in told.values() for example in one['examples'])


@pytest.mark.parametrize('number', [0, 2])
def test_stopped_it_goes_on_without_repeating_or_losing(source, store, tmp_path, number):
    count = tmp_path / 'count'
    count.mkdir()
    stop = functools.partial(stop_at, folder=count, number=number, how='stop')
    with pytest.raises(KeyboardInterrupt):
        prepare([source], tmp_path / 'store', num_workers=0, piece_bytes=PIECE, check=stop)
    assert not (tmp_path / 'store' / 'manifest.json').exists()
    with pytest.raises(ValueError, match='holds the beginning of a store with other order: choose another folder'):
        prepare([source], tmp_path / 'store', 'smiles', num_workers=0, piece_bytes=PIECE)
    data = prepare([source], tmp_path / 'store', num_workers=0, piece_bytes=PIECE, check=stop)
    assert shards(tmp_path / 'store') == shards(store) and len(data) == 60
    pieces = -(-source.stat().st_size // PIECE)
    assert len(list(count.iterdir())) == pieces + 1  # the one that was stopped was begun twice
    assert not (tmp_path / 'store' / 'pieces').exists()


def test_ray_writes_the_same_and_does_again_what_a_dead_process_left(source, store, tmp_path):
    pytest.importorskip('ray', reason='it is spread by Ray (pip install "ray[data]")')
    count = tmp_path / 'count'
    count.mkdir()
    kill = functools.partial(stop_at, folder=count, number=1, how='kill')
    prepare([source], tmp_path / 'store', num_workers=2, piece_bytes=PIECE, check=kill)
    assert shards(tmp_path / 'store') == shards(store)
    assert len({path.name.split('-')[1] for path in count.iterdir()}) > 1


def test_bad_arguments(source, tmp_path):
    with pytest.raises(ValueError, match="'sources' must name at least one file"):
        prepare([], tmp_path / 'store')
    with pytest.raises(FileNotFoundError, match=r'none\.sdf'):
        prepare([tmp_path / 'none.sdf'], tmp_path / 'store')
    with pytest.raises(ValueError, match=r"'num_workers' must not be negative .* \(got -1 and"):
        prepare([source], tmp_path / 'store', num_workers=-1)
    with pytest.raises(ValueError, match=r"'max_atoms' must be at least 1 \(got 0\)"):
        prepare([source], tmp_path / 'store', max_atoms=0)
    (tmp_path / 'empty.sdf').touch()
    with pytest.raises(ValueError, match='is empty'):
        prepare([tmp_path / 'empty.sdf'], tmp_path / 'store')
    with pytest.raises(ValueError, match=r'none of the 60 molecules is left: .*more than 1 atoms'):
        prepare([source], tmp_path / 'none', max_atoms=1, num_workers=0)
    with locked_folder(tmp_path / 'taken'), pytest.raises(ValueError, match='another process'):
        prepare([source], tmp_path / 'taken', num_workers=0)
    with pytest.warns(UserWarning, match="no molecule has 'gap'"):
        prepare([source], tmp_path / 'gap', properties=['gap'], num_workers=0)
