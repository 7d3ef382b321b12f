r"""Sets of 3D molecules."""
from torch_geometric_inertial.datasets.qm9_sample import QM9Sample

__all__ = ['QM9Sample']
