r"""``python -m torch_geometric_inertial`` is the command line."""
import sys

from torch_geometric_inertial.cli.main import main

if __name__ == '__main__':
    sys.exit(main())
