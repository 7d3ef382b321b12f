r"""The targets of QM9 by name, as PyG's data set has them."""
from torch import Tensor
from torch_geometric.data import Data, InMemoryDataset

#: Unit by name, in the order of the columns of :obj:`y` of :class:`torch_geometric.datasets.QM9`.
QM9_TARGETS = {
    'mu': 'D', 'alpha': 'a0^3', 'homo': 'eV', 'lumo': 'eV', 'gap': 'eV', 'r2': 'a0^2', 'zpve': 'eV', 'u0': 'eV',
    'u298': 'eV', 'h298': 'eV', 'g298': 'eV', 'cv': 'cal/mol/K', 'u0_atom': 'eV', 'u298_atom': 'eV', 'h298_atom': 'eV',
    'g298_atom': 'eV', 'a': 'GHz', 'b': 'GHz', 'c': 'GHz'}

#: Those that grow with the molecule: sums over atoms.
EXTENSIVE = frozenset(('alpha', 'zpve', 'u0', 'u298', 'h298', 'g298', 'cv', 'u0_atom', 'u298_atom', 'h298_atom',
                       'g298_atom'))


def qm9_target(data: Data | InMemoryDataset, name: str) -> Tensor:
    r"""The values [M] of a target in the units of :data:`QM9_TARGETS`, NaN where there is none.

    Args:
        data: :class:`torch_geometric.datasets.QM9`, :class:`QM9Sample`, or a molecule of one of them.
        name (str): Which target; the sample has :obj:`'homo'` and :obj:`'gap'` alone.

    Raises:
        ValueError: If there is no such target.
    """
    if name not in QM9_TARGETS:
        raise ValueError(f"'name' must be one of {', '.join(QM9_TARGETS)} (got '{name}')")
    values = getattr(data, 'y', None)  # all targets side by side in PyG's data set, single columns in the sample
    values = getattr(data, name, None) if values is None else values[:, list(QM9_TARGETS).index(name)]
    if not isinstance(values, Tensor):
        raise ValueError(f"'data' has no target '{name}' (the embedded sample has 'homo' and 'gap' alone; "
                         "torch_geometric.datasets.QM9 has all)")
    return values
