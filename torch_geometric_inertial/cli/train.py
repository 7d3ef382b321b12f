from __future__ import annotations

import math
import sys
from dataclasses import replace
from inspect import signature
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
from torch_geometric_inertial.metrics.samples import SampleMetrics
from torch_geometric_inertial.models import AtomAutoregressor, InertialAR, widened
from torch_geometric_inertial.models.bonded_config import BondedConfig
from torch_geometric_inertial.models.bonded_tokenization import read_molecules
from torch_geometric_inertial.nn.atom_vocabulary import AtomVocabulary, atom_types_of
from torch_geometric_inertial.report.curves import TensorBoard, draw_training
from torch_geometric_inertial.training import FitConfig, PackedMolecules, RandomOrder, RandomPose, ValidationLoss, fit
from torch_geometric_inertial.training.fit import LOG_FILE
from torch_geometric_inertial.training.packed import PackedBonds
from torch_geometric_inertial.training.validation import held_out
from torch_geometric_inertial.transforms import FunctionalGroups, InertialFrame, canonical

CHUNK = 512  #: Molecules that are checked together.
READ = ('z', 'pos', 'edge_index', 'edge_attr', 'formal_charge', 'groups')
WALKS = 0.3  #: Fraction of the molecules with bonds that are read in the order of a random walk.
GROUPS = ('qm9', 'drugs')  #: Vocabularies that weights may know.
POSES = {'InertialAR': RandomPose(30.0, 0.5)}  #: Of models without bonds; others see all poses, moved by about 1 Å.


def train(
    file: Path | None = None,
    start: str | None = None,
    model: str = 'InertialAR',
    preset: str = 'tiny',
    changes: dict | None = None,
    groups: str | None = None,
    properties: list[str] | str | None = None,
    validation: float = 0.05,
    samples: int = 0,
    out: Path = Path('outputs/train'),
    tensorboard: bool = False,
    allow_reshard: bool = False,
    fit_config: FitConfig = FitConfig(num_steps=10_000),  # noqa: B008
) -> None:
    r"""Trains a generator, and writes its weights to OUT/model. Run again, it goes on where it was stopped.

    SIGTERM ends it after the step under way, with a checkpoint and exit code 143. InertialAR learns bonds: those of
    the file, or else what the distances tell. A molecule that has none that it can learn is named on stderr and left
    out. OUT/training.png has the curves of the loss.

    Example: inertial train --file molecules.sdf --start qm9 --fit_config.max_minutes 60 --out runs/own

    Args:
        file: Molecules, SDF, XYZ or JSONL; the embedded sample of QM9 if left out.
        start: Go on from these weights, a bundled name, a folder, or a hub id, in the place of model, preset, changes
            and groups. A model with bonds learns new kinds of atoms, and longer molecules.
        model: The class: a generator of torch_geometric_inertial.models, such as InertialAR or Quetzal.
        preset: Its size.
        changes: Other fields of its configuration, such as '{channels: 96, order: heavy_first}'.
        groups: Learn to write molecules with functional groups of this vocabulary: qm9 or drugs.
        properties: Learn to write molecules with wanted values of these numbers, such as '[homo, gap]': data items of
            the SDF file, fields of the JSON lines, or what the embedded sample has. A molecule may lack some. With
            start, those of its properties that the file has, in the same units.
        validation: Fraction of the molecules, drawn at random, that are held out; their loss is in the log and in the
            picture, every evaluate_every steps of fit_config or, if that is 0, every save_every.
        samples: Write so many molecules as often, too; the shares that are right are in the log and in the picture.
        out: Folder of checkpoints, log, curves and weights.
        tensorboard: Write the curves for TensorBoard, too, to OUT/tensorboard.
        allow_reshard: Go on with another number of processes than before.
        fit_config: How to train.
    """
    names = tuple(names_of(properties) or ())
    fields = dict(changes or {})
    with arguments():
        begun = None if start is None else started(start, names, model=model, preset=preset, changes=changes,
                                                   groups=groups)
        kind: Any = generator_class(model) if begun is None else type(begun)
        config = kind.config_class.preset(preset, **fields) if begun is None else begun.config
        vocabulary = None if groups is None else FunctionalGroups(groups)
        if begun is not None and config.group_names:
            vocabulary = next((one for one in map(FunctionalGroups, GROUPS) if one.names == config.group_names), None)
        held_out(1, validation, 0)
        if samples < 0:
            raise ValueError(f"'samples' must not be negative (got {samples})")
        judge = SampleMetrics(samples) if samples else None
        board = TensorBoard(out / 'tensorboard') if tensorboard else None
    items, labels = given(file, names)
    bonds = isinstance(config, BondedConfig) and config.bonds
    if bonds:
        items, labels = with_readable_bonds(items, labels, config.max_closures)
    prepare = canonical(config.order) if config.order in ORDERS else InertialFrame()
    if vocabulary is not None:
        items = [vocabulary(data) for data in items]
        fields |= dict(num_groups=len(vocabulary.names), group_names=vocabulary.names)
    wanted = names if begun is None else tuple(config.properties)
    values = torch.tensor([[number(data, label, name) if name in names else math.nan for name in wanted]
                           for label, data in zip(labels, items, strict=True)])
    for name in names:
        if bool(values[:, wanted.index(name)].isnan().all()):
            known = {field for data in items for field in data.get('properties', ())}
            known |= {'gap', 'homo'} & set(items[0].keys())
            raise BadArgument(f"'properties' must be numbers that molecules have, and none has '{name}' (they have "
                              f"{', '.join(sorted(known)) or 'none'})")
    keep = READ if bonds else ('z', 'pos', 'edge_index', 'groups')
    batch = Batch.from_data_list([Data.from_dict({name: data[name] for name in keep if name in data})
                                  for data in items])
    batch = prepare(batch)
    molecules = PackedMolecules(batch.z, batch.pos, batch.ptr, batch.get('groups'), values if wanted else None,
                                PackedBonds.from_data(batch.to_data_list()) if bonds else None)
    longest = max(config.max_atoms, int(molecules.ptr.diff().max()) + 1)
    torch.manual_seed(fit_config.seed)
    if begun is not None:
        with arguments():
            network = widened(begun, atom_types_of(batch), longest) if bonds else of_known_atoms(begun, molecules)
    else:
        if names:
            fields['properties'] = names
        if bonds:
            fields.setdefault('atom_types', atom_types_of(batch))
        else:
            fields.setdefault('elements', tuple(molecules.z.unique().tolist()))
        fields.setdefault('max_atoms', longest)
        network = kind(kind.config_class.preset(preset, **fields))
        if isinstance(network, InertialAR):
            network.fit_landmarks(molecules.pos)
        if names:
            network.fit_properties(values)
    learned, kept = held_out(len(molecules), validation, fit_config.seed)

    pose, order = RandomPose(180.0) if bonds else POSES.get(kind.__name__, RandomPose(180.0, 1.0)), None
    if bonds:
        order = RandomOrder('walk', WALKS)  # so that `complete` can go on from a part
    elif config.order not in ORDERS:
        order = RandomOrder(config.order)

    def augment(data, generator):
        return pose(data if order is None else order(data, generator), generator)

    folder, evaluate = out / 'checkpoints', ValidationLoss(molecules.subset(kept), augment) if len(kept) else None
    if len(kept):
        molecules = molecules.subset(learned)
    print(f'{network} learns from {len(molecules):,} molecules' + (f', {len(kept):,} held out' if len(kept) else ''))

    def watch(averaged, step):
        figures = {} if evaluate is None else evaluate(averaged, step)
        if judge is not None:
            figures |= judge(averaged, step)
        if board is not None:
            board.update(folder / LOG_FILE)
        return figures

    often = fit_config.evaluate_every or fit_config.save_every
    with arguments():
        trained: Any = fit(network, molecules, folder, replace(fit_config, evaluate_every=often), augment=augment,
                           evaluate=watch if evaluate or judge or board else None, progress=True,
                           allow_reshard=allow_reshard)
    if board is not None:
        board.update(folder / LOG_FILE)
    if 'stopped_by' in trained.training_record:
        record = trained.training_record
        print(f"stopped by {record['stopped_by']} after {record['steps']:,} steps; run it again to go on",
              file=sys.stderr)
        sys.exit(143)
    facts: dict[str, Any] = {} if start is None else dict(start=start)
    if evaluate is not None:
        facts['validation'] = dict(num_molecules=len(kept), **evaluate(trained))
    trained.save_pretrained(out / 'model', data='QM9Sample' if file is None else file.name, **facts)
    print(f"wrote {out / 'model'}")
    draw(folder / LOG_FILE, out / 'training.png')


def given(file: Path | None, names: tuple[str, ...]) -> tuple[list[Data], list[str]]:
    r"""The molecules of a file, or those of the embedded sample, and what messages call each."""
    if file is None:
        items = list(QM9Sample())
        return items, [f'molecule {i}' for i in range(len(items))]
    records = read_records(file, names)
    return ([record.molecule for record in records if record.molecule is not None],
            [place_of(record, file) for record in records])


def started(start: str, properties: tuple[str, ...], **others: Any) -> AtomAutoregressor:
    r"""The generator to go on from.

    Raises:
        ValueError: If there is none, it does not know a property, or another argument says what it is.
    """
    defaults = {name: parameter.default for name, parameter in signature(train).parameters.items()}
    for name, value in others.items():
        if value != defaults[name]:
            raise ValueError(f"'{name}' cannot be given with 'start', whose weights settle it (got {value!r})")
    model = AtomAutoregressor.from_pretrained(start)
    for name in properties:
        if name not in model.config.properties:
            raise ValueError(f"'properties' must be some of those of '{start}', "
                             f"{', '.join(model.config.properties) or 'none'} (got '{name}')")
    return model


def of_known_atoms(model: AtomAutoregressor, molecules: PackedMolecules) -> AtomAutoregressor:
    r"""The model itself.

    Raises:
        ValueError: If it does not know all elements, or there are longer molecules than it can write.
    """
    longest, unknown = int(molecules.ptr.diff().max()), set(molecules.z.unique().tolist()) - set(model.elements)
    if unknown:
        raise ValueError(f"the weights of 'start' write no bonds, and can learn of no other elements than "
                         f'{list(model.elements)} (the file has {sorted(unknown)})')
    if longest >= model.config.max_atoms:
        raise ValueError(f"the weights of 'start' write no bonds, and molecules of less than {model.config.max_atoms} "
                         f'atoms alone (the file has one of {longest})')
    return model


def draw(log: Path, out: Path) -> None:
    r"""The curves, where they can be drawn; if not, that is said, and the weights are there all the same."""
    try:
        draw_training(log, out)
        print(f'wrote {out}')
    except (ImportError, ValueError) as error:
        print(f'no curves are drawn: {error}', file=sys.stderr)


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
