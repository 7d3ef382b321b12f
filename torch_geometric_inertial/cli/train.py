from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any, Literal

import torch
from torch_geometric.data import Batch, Data
from torch_geometric.transforms import Compose

from torch_geometric_inertial.chem.order import ORDERS
from torch_geometric_inertial.cli.files import read_molecules
from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.models import InertialAR, Quetzal
from torch_geometric_inertial.training import FitConfig, PackedMolecules, RandomOrder, RandomPose, fit
from torch_geometric_inertial.transforms import CanonicalOrder, FunctionalGroups, InertialFrame

READ = ('z', 'pos', 'edge_index', 'edge_attr', 'formal_charge', 'groups')
MODELS: dict[str, Any] = {'InertialAR': InertialAR, 'Quetzal': Quetzal}
POSES = {'InertialAR': RandomPose(30.0, 0.5), 'Quetzal': RandomPose(180.0, 1.0)}


def train(
    file: Path | None = None,
    model: Literal['InertialAR', 'Quetzal'] = 'InertialAR',
    preset: str = 'tiny',
    changes: dict | None = None,
    groups: str | None = None,
    properties: list[str] | None = None,
    out: Path = Path('outputs/train'),
    allow_reshard: bool = False,
    fit_config: FitConfig = FitConfig(num_steps=10_000),  # noqa: B008
) -> None:
    r"""Trains a generator, and writes its weights to OUT/model. Run again, it goes on where it was stopped.

    SIGTERM ends it after the step under way, with a checkpoint and exit code 143.

    Args:
        file: Molecules, SDF, XYZ or JSONL; the embedded sample of QM9 if left out.
        model: The class.
        preset: Its size.
        changes: Other fields of its configuration, such as '{channels: 96, order: heavy_first}'.
        groups: Learn to write molecules with functional groups of this vocabulary: qm9 or drugs.
        properties: Learn to write molecules with wanted values of these numbers, such as '[homo, gap]': data items of
            the SDF file, fields of the JSON lines, or what the embedded sample has. A molecule may lack some.
        out: Folder of checkpoints, log and weights.
        allow_reshard: Go on with another number of processes than before.
        fit_config: How to train.
    """
    names = tuple(properties or ())
    items = list(QM9Sample()) if file is None else read_molecules(file, fields=names)
    kind = MODELS[model]
    fields = dict(changes or {})
    config = kind.config_class.preset(preset, **fields)
    canonical: list = [InertialFrame()]
    if config.order in ORDERS:
        canonical.append(CanonicalOrder(order=config.order))
    if groups is not None:
        vocabulary = FunctionalGroups(groups)
        items = [vocabulary(data) for data in items]
        fields |= dict(num_groups=len(vocabulary.names), group_names=vocabulary.names)
    values = torch.tensor([[number(data, i, name) for name in names] for i, data in enumerate(items)])
    items = [Data.from_dict({name: data[name] for name in READ if name in data}) for data in items]
    batch = Compose(canonical)(Batch.from_data_list(items))
    molecules = PackedMolecules(batch.z, batch.pos, batch.ptr, batch.get('groups'), values if names else None)
    if names:
        fields['properties'] = names
    fields.setdefault('elements', tuple(molecules.z.unique().tolist()))
    fields.setdefault('max_atoms', max(config.max_atoms, int(molecules.ptr.diff().max()) + 1))
    torch.manual_seed(fit_config.seed)
    network = kind(kind.config_class.preset(preset, **fields))
    if isinstance(network, InertialAR):
        network.fit_landmarks(molecules.pos)
    if names:
        network.fit_properties(values)
    print(f'{network} learns from {len(molecules):,} molecules')

    pose, order = POSES[model], config.order

    def augment(data, generator):
        if order in ('random', 'traverse'):
            data = RandomOrder(order)(data, generator)
        return pose(data, generator)

    trained: Any = fit(network, molecules, out / 'checkpoints', fit_config, augment=augment, progress=True,
                       allow_reshard=allow_reshard)
    if 'stopped_by' in trained.training_record:
        record = trained.training_record
        print(f"stopped by {record['stopped_by']} after {record['steps']:,} steps; run it again to go on",
              file=sys.stderr)
        sys.exit(143)
    trained.save_pretrained(out / 'model')
    print(f"wrote {out / 'model'}")


def number(data: Data, i: int, name: str) -> float:
    r"""A number that a molecule has, NaN if it has none.

    Raises:
        ValueError: If it is not one number.
    """
    value = data.get(name, math.nan)
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"'{name}' of molecule {i} must be a number (got {value!r})") from error
