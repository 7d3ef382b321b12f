r"""Draws the energies of a simulation that examples/ethanol_md.py wrote.

    python benchmarks/plot_energies.py outputs/ethanol_md/energy.csv
"""
import argparse
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use('Agg')
from matplotlib import pyplot


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('file', type=Path, help='the picture gets its name, with .png')
    file = parser.parse_args().file
    time, potential, kinetic, _ = np.loadtxt(file, delimiter=',', skiprows=1).T
    figure, (above, below) = pyplot.subplots(2, sharex=True, figsize=(7, 5), layout='constrained')
    above.plot(time, potential - potential[0], label='potential', linewidth=0.8)
    above.plot(time, kinetic, label='kinetic', linewidth=0.8)
    above.set_ylabel('eV')
    above.legend(loc='upper center', ncols=2)
    below.plot(time, 1000 * (potential + kinetic - potential[0] - kinetic[0]), color='black', linewidth=0.8)
    below.set_ylabel('total, meV from the start')
    below.set_xlabel('fs')
    figure.savefig(file.with_suffix('.png'), dpi=150)


if __name__ == '__main__':
    main()
