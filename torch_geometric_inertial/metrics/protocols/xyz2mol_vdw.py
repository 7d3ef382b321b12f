r"""Bonds perceived from van der Waals radii."""
from torch_geometric_inertial.metrics.xyz2mol import XYZ2Mol


class XYZ2MolVdW(XYZ2Mol):
    r"""Neighbors by van der Waals radii: what RDKit did before 2023.09, and so published figures."""
    name = 'xyz2mol-vdw'
    version = 1
    use_vdw = True


PROTOCOL = XYZ2MolVdW()
