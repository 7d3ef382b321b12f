from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median

from torch_geometric.data import Data
from tqdm import tqdm

from torch_geometric_inertial.cli.arguments import arguments
from torch_geometric_inertial.cli.files import name_of, read_records, refuse, write_molecules
from torch_geometric_inertial.refinement.relax import method_of, relax_items

AT_ONCE = dict(mmff=64, xtb=4)  #: Molecules of a process before they are written.


def relax(file: Path, method: str = 'mmff', out: Path = Path('relaxed.sdf'), workers: int = 1) -> None:
    r"""Relaxes molecules to the nearest minimum of the energy, with the bonds and charges of the file or, where it has
    none, those that the distances tell. A molecule that cannot be relaxed is named on stderr, and the others are
    written, with the fall of the energy (kcal/mol) and the RMSD from where the atoms were (Å).

    Example: inertial relax molecules.sdf --method xtb --workers 4 --out relaxed.sdf

    Args:
        file: SDF, XYZ, JSONL or PDB.
        method: mmff, MMFF94 of RDKit, milliseconds a molecule; or xtb, GFN2-xTB of tblite, seconds a molecule.
        out: SDF, XYZ or JSONL file.
        workers: Processes to work in.
    """
    with arguments():
        method_of(method)
        if workers < 1:
            raise ValueError(f"'workers' must be at least 1 (got {workers})")
    records, drops, moves = read_records(file), [], []

    def relaxed() -> Iterator[Data]:
        step = AT_ONCE[method] * workers
        with tqdm(total=len(records), unit='mol') as bar:
            for start in range(0, len(records), step):
                part = records[start:start + step]
                given = [record.molecule for record in part if record.molecule is not None]
                for record, data in zip(part, relax_items(given, method, workers), strict=True):
                    bar.update()
                    if isinstance(data, ValueError):
                        refuse(record, data)
                        reason = data
                        continue
                    data.title = name_of(record)
                    drops.append(data.energy_drop)
                    moves.append(data.rmsd)
                    yield data
        if not drops:
            raise ValueError(f'none of the {len(records)} molecules can be relaxed; {reason}')

    count = write_molecules(relaxed(), out)
    print(f'wrote {count} molecules relaxed by {method} to {out}: median fall of the energy {median(drops):.2f} '
          f'kcal/mol, median RMSD {median(moves):.3f} Å')
