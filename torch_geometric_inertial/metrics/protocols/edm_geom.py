r"""EDM's figures on GEOM-Drugs."""
from torch_geometric_inertial.metrics.edm import EDMProtocol
from torch_geometric_inertial.metrics.protocol import atomic_numbers


class EDMGEOM(EDMProtocol):
    r"""As ``edm-qm9``, for the elements of GEOM-Drugs. As EDM does there, RDKit is told that all bonds are single, so
    that ``validity`` says little, while stability counts the orders. Few molecules of drugs are stable: the tables were
    not made for them."""
    name = 'edm-geom'
    version = 1
    elements = atomic_numbers('H B C N O F Al Si P S Cl As Br I Hg Bi')
    single_bonds = True


PROTOCOL = EDMGEOM()
