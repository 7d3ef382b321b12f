from __future__ import annotations

from pathlib import Path

from torch_geometric.data import Data

from torch_geometric_inertial.cli.arguments import arguments
from torch_geometric_inertial.cli.arguments import names as names_of
from torch_geometric_inertial.datasets.prepare import Preparation
from torch_geometric_inertial.datasets.prepare import prepare as prepare_store
from torch_geometric_inertial.models import InertialARConfig
from torch_geometric_inertial.models.bonded_tokenization import read_molecules
from torch_geometric_inertial.nn.atom_vocabulary import AtomVocabulary, atom_types_of


def prepare(
    sources: list[Path],
    out: Path = Path('store'),
    order: str = 'heavy_first',
    groups: str | None = None,
    properties: list[str] | str | None = None,
    max_atoms: int = 1000,
    num_workers: int = 2,
    address: str | None = None,
) -> None:
    r"""Makes a store of molecules, ready for training: bonds where they are missing, canonical frame and atom order,
    functional groups, as files that are mapped into memory. Run again, it goes on where it was stopped.

    Molecules that a generator cannot learn are left out; how many for which reason is printed, and stands with
    examples in OUT/manifest.json.

    Example: inertial prepare part1.sdf part2.sdf --out store --groups drugs --properties gap

    Args:
        sources: SDF, JSONL, XYZ or PDB files. SDF and JSONL files that are not compressed are read in parallel.
        out: Folder of the store.
        order: Of the atoms: heavy_first, in which InertialAR writes bonds; smiles or rank for models without bonds.
        groups: Find functional groups of this vocabulary: qm9 or drugs.
        properties: Keep these numbers of molecules, such as 'homo,gap': data items of SDF, fields of JSONL.
        max_atoms: Leave out larger molecules.
        num_workers: Processes of this machine; 0 does without Ray.
        address: Of a running Ray cluster, such as 'auto' or 'ray://head:10001', which is used instead.
    """
    names = tuple(names_of(properties) or ())
    with arguments():
        Preparation(order, groups, names, max_atoms)
    data = prepare_store(sources, out, order, groups, names, max_atoms, num_workers, address,
                         readable if order == 'heavy_first' else None, progress=True)
    report = data.report
    print(f'wrote {len(data):,} of {report["read"]:,} molecules to {out}')
    for reason, told in report['dropped'].items():
        print(f'{told["count"]:10,} left out: {reason}')
    print(f'{report["molecules_per_core_second"]:,.0f} molecules/s per core, {report["core_seconds"]:,.0f} s of core '
          'time')


def readable(batch: Data) -> None:
    r"""Refuses molecules that a model with bonds cannot learn.

    Raises:
        ValueError: With the reason.
    """
    read_molecules(batch, AtomVocabulary(atom_types_of(batch)), int(batch.ptr.diff().max()),
                   InertialARConfig().max_closures)
