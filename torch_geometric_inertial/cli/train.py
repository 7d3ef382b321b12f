from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import Batch, Data

from torch_geometric_inertial import models
from torch_geometric_inertial.chem import with_bonds
from torch_geometric_inertial.chem.order import ORDERS
from torch_geometric_inertial.cli.arguments import BadArgument, arguments
from torch_geometric_inertial.cli.arguments import names as names_of
from torch_geometric_inertial.cli.files import place_of, read_records
from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.models import AtomAutoregressor, InertialAR
from torch_geometric_inertial.models.bonded_config import BondedConfig
from torch_geometric_inertial.models.bonded_tokenization import read_molecules
from torch_geometric_inertial.nn.atom_vocabulary import AtomVocabulary, atom_types_of
from torch_geometric_inertial.training import FitConfig, PackedMolecules, RandomOrder, RandomPose, fit
from torch_geometric_inertial.training.packed import PackedBonds
from torch_geometric_inertial.transforms import FunctionalGroups, InertialFrame, canonical

CHUNK = 512  #: Molecules that are checked together.
READ = ('z', 'pos', 'edge_index', 'edge_attr', 'formal_charge', 'groups')
WALKS = 0.3  #: Fraction of the molecules with bonds that are read in the order of a random walk.
POSES = {'InertialAR': RandomPose(30.0, 0.5)}  #: Of models without bonds; others see all poses, moved by about 1 Å.


def train(
    file: Path | None = None,
    model: str = 'InertialAR',
    preset: str = 'tiny',
    changes: dict | None = None,
    groups: str | None = None,
    properties: list[str] | str | None = None,
    out: Path = Path('outputs/train'),
    allow_reshard: bool = False,
    fit_config: FitConfig = FitConfig(num_steps=10_000),  # noqa: B008
) -> None:
    r"""Trains a generator, and writes its weights to OUT/model. Run again, it goes on where it was stopped.

    SIGTERM ends it after the step under way, with a checkpoint and exit code 143. InertialAR learns bonds: those of
    the file, or else what the distances tell. A molecule that has none that it can learn is named on stderr and left
    out.

    Example: inertial train --file molecules.sdf --preset small --fit_config.max_minutes 60 --out runs/own

    Args:
        file: Molecules, SDF, XYZ or JSONL; the embedded sample of QM9 if left out.
        model: The class: a generator of torch_geometric_inertial.models, such as InertialAR or Quetzal.
        preset: Its size.
        changes: Other fields of its configuration, such as '{channels: 96, order: heavy_first}'.
        groups: Learn to write molecules with functional groups of this vocabulary: qm9 or drugs.
        properties: Learn to write molecules with wanted values of these numbers, such as '[homo, gap]': data items of
            the SDF file, fields of the JSON lines, or what the embedded sample has. A molecule may lack some.
        out: Folder of checkpoints, log and weights.
        allow_reshard: Go on with another number of processes than before.
        fit_config: How to train.
    """
    names = tuple(names_of(properties) or ())
    if file is None:
        items = list(QM9Sample())
        labels = [f'molecule {i}' for i in range(len(items))]
    else:
        records = read_records(file, names)
        items, labels = [record.molecule for record in records], [place_of(record, file) for record in records]
    fields = dict(changes or {})
    with arguments():
        kind = generator_class(model)
        config = kind.config_class.preset(preset, **fields)
        vocabulary = None if groups is None else FunctionalGroups(groups)
    bonds = isinstance(config, BondedConfig) and config.bonds
    if bonds:
        items, labels = with_readable_bonds(items, labels, config.max_closures)
    prepare = canonical(config.order) if config.order in ORDERS else InertialFrame()
    if vocabulary is not None:
        items = [vocabulary(data) for data in items]
        fields |= dict(num_groups=len(vocabulary.names), group_names=vocabulary.names)
    values = torch.tensor([[number(data, label, name) for name in names]
                           for label, data in zip(labels, items, strict=True)])
    for name, column in zip(names, values.T, strict=True):
        if bool(column.isnan().all()):
            known = {field for data in items for field in data.get('properties', ())}
            known |= {'gap', 'homo'} & set(items[0].keys())
            raise BadArgument(f"'properties' must be numbers that molecules have, and none has '{name}' (they have "
                              f"{', '.join(sorted(known)) or 'none'})")
    keep = READ if bonds else ('z', 'pos', 'edge_index', 'groups')
    batch = Batch.from_data_list([Data.from_dict({name: data[name] for name in keep if name in data})
                                  for data in items])
    batch = prepare(batch)
    molecules = PackedMolecules(batch.z, batch.pos, batch.ptr, batch.get('groups'), values if names else None,
                                PackedBonds.from_data(batch.to_data_list()) if bonds else None)
    if names:
        fields['properties'] = names
    if bonds:
        fields.setdefault('atom_types', atom_types_of(batch))
    else:
        fields.setdefault('elements', tuple(molecules.z.unique().tolist()))
    fields.setdefault('max_atoms', max(config.max_atoms, int(molecules.ptr.diff().max()) + 1))
    torch.manual_seed(fit_config.seed)
    network = kind(kind.config_class.preset(preset, **fields))
    if isinstance(network, InertialAR):
        network.fit_landmarks(molecules.pos)
    if names:
        network.fit_properties(values)
    print(f'{network} learns from {len(molecules):,} molecules')

    pose, order = RandomPose(180.0) if bonds else POSES.get(model, RandomPose(180.0, 1.0)), None
    if bonds:
        order = RandomOrder('walk', WALKS)  # so that `complete` can go on from a part
    elif config.order not in ORDERS:
        order = RandomOrder(config.order)

    def augment(data, generator):
        return pose(data if order is None else order(data, generator), generator)

    with arguments():
        trained: Any = fit(network, molecules, out / 'checkpoints', fit_config, augment=augment, progress=True,
                           allow_reshard=allow_reshard)
    if 'stopped_by' in trained.training_record:
        record = trained.training_record
        print(f"stopped by {record['stopped_by']} after {record['steps']:,} steps; run it again to go on",
              file=sys.stderr)
        sys.exit(143)
    trained.save_pretrained(out / 'model', data='QM9Sample' if file is None else file.name)
    print(f"wrote {out / 'model'}")


def generator_class(name: str) -> Any:
    r"""The generator of that name in :mod:`torch_geometric_inertial.models`.

    Raises:
        ValueError: If there is none.
    """
    found = {one: kind for one in models.__all__ if isinstance(kind := getattr(models, one), type)
             and issubclass(kind, AtomAutoregressor) and kind is not AtomAutoregressor}
    if name not in found:
        raise ValueError(f"'model' must be one of {', '.join(sorted(found))} (got '{name}')")
    return found[name]


def with_readable_bonds(items: list[Data], labels: list[str], max_closures: int) -> tuple[list[Data], list[str]]:
    r"""The molecules that a model with bonds can learn from, with their bonds, and what they are called; the others
    are named on stderr.

    Raises:
        ValueError: If none is left.
    """
    found: list[Data] = []
    names: list[str] = []
    reason = ''
    for start in range(0, len(items), CHUNK):
        bonded, kept = [], []
        for data, label in zip(items[start:start + CHUNK], labels[start:start + CHUNK], strict=True):
            try:
                bonded.append(with_bonds(data))
                kept.append(label)
            except ValueError as error:
                reason = f'{label}: {error}'
                print(reason, file=sys.stderr)
        try:
            if bonded:
                check(bonded, max_closures)
            found, names = found + bonded, names + kept
        except ValueError:  # one by one, to know which
            for data, label in zip(bonded, kept, strict=True):
                try:
                    check([data], max_closures)
                    found.append(data)
                    names.append(label)
                except ValueError as error:
                    reason = f'{label}: {error}'
                    print(reason, file=sys.stderr)
    if not found:
        raise ValueError(f'none of the {len(items)} molecules has bonds that a model can learn; {reason}')
    return found, names


def check(items: list[Data], max_closures: int) -> None:
    r"""Reads molecules as a model does that knows all their atoms."""
    batch = canonical()(Batch.from_data_list([
        Data.from_dict({name: data[name] for name in READ[:-1] if name in data}) for data in items]))
    read_molecules(batch, AtomVocabulary(atom_types_of(batch)), int(batch.ptr.diff().max()), max_closures)


def number(data: Data, label: str, name: str) -> float:
    r"""A number that a molecule has, NaN if it has none.

    Raises:
        ValueError: If it is not one number.
    """
    value = data.get(name, math.nan)
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"'{name}' of {label} must be a number (got {value!r})") from error
