r"""Strain by GFN2-xTB."""
from torch_geometric_inertial.metrics.strain_energy import StrainProtocol


class StrainXTB(StrainProtocol):
    r"""Relaxed by GFN2-xTB, as *GEOM-Drugs revisited* does, through tblite. Seconds a molecule."""
    name = 'strain-xtb'
    version = 1
    packages = ('rdkit', 'tblite', 'ase')
    compared_within = ('tblite', )
    function = 'minimize_xtb'
    max_steps = 300
    seconds = 600.0


PROTOCOL = StrainXTB()
