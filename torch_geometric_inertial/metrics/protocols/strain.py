r"""Strain by the MMFF94 force field."""
from torch_geometric_inertial.metrics.strain_energy import StrainProtocol


class StrainMMFF(StrainProtocol):
    r"""Relaxed by MMFF94 of RDKit. Its minima are not those of DFT: real molecules have strain, too."""
    name = 'strain'
    version = 1
    compared_within = ('rdkit', )
    function = 'minimize_mmff'
    max_steps = 2000
    seconds = 120.0


PROTOCOL = StrainMMFF()
