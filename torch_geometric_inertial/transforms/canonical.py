r"""The canonical form of molecules that the generators learn."""
from __future__ import annotations

from torch_geometric.transforms import Compose

from torch_geometric_inertial.transforms.canonical_order import CanonicalOrder
from torch_geometric_inertial.transforms.inertial_frame import InertialFrame


def canonical(order: str = 'heavy_first') -> Compose:
    r"""The inertial frame and then the canonical order: what comes out depends on the molecule alone. Works on a
    :class:`~torch_geometric.data.Data` and, faster by far, on a :class:`~torch_geometric.data.Batch`.

    Args:
        order (str): See :class:`CanonicalOrder`. (default: :obj:`'heavy_first'`, in which InertialAR writes bonds)

    Raises:
        ValueError: If there is no such order.
    """
    return Compose([InertialFrame(), CanonicalOrder(order=order)])
