r"""The curves of a training."""
import json
import sys

import pytest

from torch_geometric_inertial.report.curves import TensorBoard, draw_training, read_log

RECORDS = [dict(step=10, total=3.0, bond=1.0, lr=1e-3, seconds=1.0), dict(step=10, val_total=3.5, val_bond=1.2),
           dict(step=20, total=2.0, bond=0.5, lr=5e-4, seconds=2.0)]


@pytest.fixture
def log(tmp_path):
    (tmp_path / 'log.jsonl').write_text(''.join(json.dumps(record) + '\n' for record in RECORDS) + '{"step": 30, "to')
    return tmp_path / 'log.jsonl'


def test_what_is_torn_is_left_out(log):
    assert read_log(log) == RECORDS


def test_a_panel_for_each_term(log, tmp_path, monkeypatch):
    figure = pytest.importorskip('matplotlib.figure')
    drawn = []
    monkeypatch.setattr(figure.Figure, 'savefig', lambda self, file, **_: (drawn.append(self), file.write(b'picture')))
    draw_training(log, tmp_path / 'x.png')
    assert (tmp_path / 'x.png').read_bytes() == b'picture'
    panels = {axes.get_title(): [list(map(tuple, line.get_xydata())) for line in axes.lines] for axes in drawn[0].axes}
    assert panels == {'loss': [[(10, 3.0), (20, 2.0)], [(10, 3.5)]], 'bond': [[(10, 1.0), (20, 0.5)], [(10, 1.2)]],
                      'learning rate': [[(10, 1e-3), (20, 5e-4)]]}


def test_it_is_a_picture(log, tmp_path):
    pytest.importorskip('matplotlib')
    draw_training(log, tmp_path / 'x.png')
    assert (tmp_path / 'x.png').read_bytes().startswith(b'\x89PNG')


@pytest.mark.parametrize('content', [None, '', 'no log\n', '{"a": 1}\n'])
def test_no_log(content, tmp_path):
    if content is not None:
        (tmp_path / 'log.jsonl').write_text(content)
    with pytest.raises(ValueError, match=r'must be the log of a training \(it holds no record\)'):
        draw_training(tmp_path / 'log.jsonl', tmp_path / 'x.png')


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(one.step, pytest.approx(one.value)) for one in events.Scalars(tag)] for tag in events.Tags()[
        'scalars']}


def test_events_are_those_of_the_log_as_it_grows(log, tmp_path):
    pytest.importorskip('tensorboard')
    (tmp_path / 'board').mkdir()
    (tmp_path / 'board' / 'events.out.tfevents.1.old').write_text('of a training that went further')
    board = TensorBoard(tmp_path / 'board')
    board.update(tmp_path / 'not_yet.jsonl')
    board.update(log)
    text = log.read_text().rpartition('{')[0]
    log.write_text(text + json.dumps(dict(step=30, total=1.0)) + '\n')
    board.update(log)
    board.update(log)
    assert scalars(tmp_path / 'board') == {
        'training/total': [(10, 3.0), (20, 2.0), (30, 1.0)], 'training/bond': [(10, 1.0), (20, 0.5)],
        'training/lr': [(10, 1e-3), (20, 5e-4)], 'validation/total': [(10, 3.5)], 'validation/bond': [(10, 1.2)]}


@pytest.mark.parametrize('module, call, message', [
    ('matplotlib.figure', lambda log, tmp_path: draw_training(log, tmp_path / 'x.png'),
     'curves need Matplotlib: pip install matplotlib'),
    ('torch.utils.tensorboard', lambda log, tmp_path: TensorBoard(tmp_path / 'board'),
     "'tensorboard' needs TensorBoard: pip install tensorboard"),
])
def test_a_missing_package_is_named(module, call, message, log, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=message):
        call(log, tmp_path)
