r"""The curves of a training, as a picture and for TensorBoard."""
from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

from torch_geometric_inertial.files import write_atomically
from torch_geometric_inertial.metrics.samples import PREFIX

OTHER = ('step', 'seconds')  #: Fields of a log that are no curves.
#: Prefix of the name of a curve -> its group in TensorBoard; the others are of the training.
GROUPS = {'val_': 'validation', PREFIX: 'samples'}
LEARNED, HELD_OUT = '#3f6fe0', '#e5382f'


def read_log(log: str | Path) -> list[dict[str, Any]]:
    r"""The records of a :obj:`log.jsonl` of :func:`~torch_geometric_inertial.training.fit`; a last line that is torn is
    left out.

    Raises:
        ValueError: If there is no such file, or it holds no record.
    """
    path, records = Path(log), []
    lines = path.read_text(errors='replace').splitlines() if path.is_file() else []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get('step'), int):
            records.append(record)
    if not records:
        raise ValueError(f"'{path}' must be the log of a training (it holds no record)")
    return records


def draw_training(log: str | Path, out: str | Path) -> None:
    r"""Saves the curves of a training as a PNG picture: a panel for each term of the loss, in training and, where there
    are figures with :obj:`val_` before their names, on the molecules held out; the learning rate; and, where there are
    figures with :obj:`sample_` before their names, what the model wrote.

    Args:
        log: The :obj:`log.jsonl` of :func:`~torch_geometric_inertial.training.fit`.
        out: The picture.

    Raises:
        ValueError: If there is no log.
        ImportError: Without Matplotlib.
    """
    records = read_log(log)
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("curves need Matplotlib: pip install matplotlib") from error

    curves: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        for name, value in record.items():
            if name not in OTHER and isinstance(value, int | float):
                curves.setdefault(name, []).append((record['step'], value))
    written = {name: curves.pop(name) for name in list(curves) if name.startswith(PREFIX)}
    panels = sorted({name.removeprefix('val_') for name in curves}, key=lambda name: (name == 'lr', name != 'total'))
    panels += ['molecules written'] if written else []
    columns = min(3, len(panels)) or 1
    rows = -(-len(panels) // columns) or 1
    figure = Figure(figsize=(4.2 * columns, 3 * rows), layout='constrained')
    for k, name in enumerate(panels):
        axes = figure.add_subplot(rows, columns, k + 1)
        for one, points in written.items() if name == 'molecules written' else ():
            axes.plot(*zip(*points, strict=True), label=one.removeprefix(PREFIX).replace('_', ' '), linewidth=1.3,
                      marker='o' if len(points) < 20 else '', markersize=3)
        for key, label, color in ((name, 'training', LEARNED), (f'val_{name}', 'held out', HELD_OUT)):
            if key in curves:
                axes.plot(*zip(*curves[key], strict=True), label=label, color=color,
                          marker='o' if len(curves[key]) < 20 else '', markersize=3, linewidth=1.3)
        axes.set_title({'total': 'loss', 'lr': 'learning rate'}.get(name, name), fontsize=10)
        axes.set_xlabel('step', fontsize=9)
        axes.tick_params(labelsize=8)
        axes.spines[['top', 'right']].set_visible(False)
        if f'val_{name}' in curves or name == 'molecules written':
            axes.legend(fontsize=8, frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format='png', dpi=130)
    write_atomically(out, lambda temporary: temporary.write_bytes(picture.getvalue()))


class TensorBoard:
    r"""Events for TensorBoard, made anew from the log of a training, which is what a training that goes on has kept.

    Args:
        folder: Gets the events; what it held before is removed.

    Raises:
        ImportError: Without TensorBoard.
    """
    def __init__(self, folder: str | Path):
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError("'tensorboard' needs TensorBoard: pip install tensorboard") from error
        shutil.rmtree(folder, ignore_errors=True)
        self.writer, self.written = SummaryWriter(str(folder)), 0

    def update(self, log: str | Path) -> None:
        r"""Writes what has come to the log."""
        records = read_log(log) if Path(log).is_file() else []
        for record in records[self.written:]:
            for name, value in record.items():
                if name not in OTHER and isinstance(value, int | float):
                    prefix = next((prefix for prefix in GROUPS if name.startswith(prefix)), '')
                    group = GROUPS.get(prefix, 'training')
                    self.writer.add_scalar(f'{group}/{name.removeprefix(prefix)}', value, record['step'])
        self.written = len(records)
        self.writer.flush()
