r"""Bonds perceived by connecting the dots."""
from torch_geometric_inertial.metrics.xyz2mol import XYZ2Mol


class XYZ2MolCTD(XYZ2Mol):
    r"""Neighbors by connecting the dots: what RDKit does by itself since 2023.09."""
    name = 'xyz2mol-ctd'
    version = 1
    use_vdw = False


PROTOCOL = XYZ2MolCTD()
