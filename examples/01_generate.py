r"""New molecules, judged and drawn.

    python examples/01_generate.py
"""
from pathlib import Path

from torch_geometric_inertial import InertialAR
from torch_geometric_inertial.chem import draw_grid, write_sdf
from torch_geometric_inertial.metrics import evaluate

OUT = Path('outputs/01_generate')


def main() -> None:
    model = InertialAR.from_pretrained('qm9')
    molecules = model.generate(64, seed=0, progress=True)

    first = molecules[0]  # a torch_geometric.data.Data
    print(first)
    print('atomic numbers', first.z.tolist(), 'bond orders', first.edge_attr.tolist())

    print(evaluate(molecules, 'edm-qm9'))
    write_sdf(molecules, OUT / 'molecules.sdf', on_error='skip')
    draw_grid(molecules[:16], OUT / 'molecules.png')
    print(f'wrote to {OUT}')


if __name__ == '__main__':
    main()
