r"""Sets of 3D molecules."""
from torch_geometric_inertial.datasets.qm9_sample import QM9Sample
from torch_geometric_inertial.datasets.qm9_split import qm9_split

__all__ = ['QM9Sample', 'qm9_split']
