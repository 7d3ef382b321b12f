r"""Transforms of :class:`torch_geometric.data.Data`, one a file."""
from torch_geometric_inertial.transforms.canonical import canonical
from torch_geometric_inertial.transforms.canonical_order import CanonicalOrder
from torch_geometric_inertial.transforms.functional_groups import FunctionalGroups
from torch_geometric_inertial.transforms.inertial_frame import InertialFrame

__all__ = ['CanonicalOrder', 'FunctionalGroups', 'InertialFrame', 'canonical']
