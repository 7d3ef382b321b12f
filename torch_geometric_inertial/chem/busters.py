r"""PoseBusters on one molecule. Runs without torch, in a process of its own: it may hang."""
from __future__ import annotations

from functools import cache
from typing import Any

from torch_geometric_inertial.chem.plain import Plain, plain_mol


def bust(molecule: Plain, energy: bool) -> dict[str, bool | None]:
    r"""The checks of the configuration ``mol`` of PoseBusters and their results; :obj:`None` where a check cannot be
    made.

    Args:
        molecule: With its bonds.
        energy: Whether to make the energy check, and it alone, or all others.
    """
    from rdkit import rdBase

    with rdBase.BlockLogs():
        table = _buster(energy).bust([plain_mol(molecule)], None, None)
    row = {str(name).lower().replace(' ', '_').replace('-', '_'): value for name, value in table.iloc[0].items()}
    return {name: bool(value) if value in (True, False) else None for name, value in row.items()
            if name != 'mol_pred_loaded'}


@cache
def _buster(energy: bool) -> Any:
    from pathlib import Path

    import posebusters
    import yaml

    config = yaml.safe_load((Path(posebusters.__file__).parent / 'config' / 'mol.yml').read_text())
    config['modules'] = [module for module in config['modules'] if module['function'] == 'loading'
                         or (module['function'] == 'energy_ratio') == energy]
    return posebusters.PoseBusters(config=config, max_workers=0)
