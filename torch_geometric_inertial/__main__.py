r"""``python -m torch_geometric_inertial``: which kernels run here, and whether they compute what they should."""
import sys

from torch_geometric_inertial.cli.doctor import doctor

if __name__ == '__main__':
    try:
        doctor()
    except ValueError as error:
        sys.exit(str(error))
