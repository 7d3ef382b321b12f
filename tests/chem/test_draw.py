import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_inertial.chem import draw_grid

Image = pytest.importorskip('PIL.Image')

METHANE = Data(z=torch.tensor([6, 1, 1, 1, 1]), pos=torch.tensor(
    [[0.0, 0, 0], [0.63, 0.63, 0.63], [-0.63, -0.63, 0.63], [-0.63, 0.63, -0.63], [0.63, -0.63, -0.63]]))


def line(*z, step=1.16):
    return Data(z=torch.tensor(z), pos=torch.arange(len(z))[:, None] * torch.tensor([[step, 0.0, 0.0]]))


def pixels(path):
    return np.asarray(Image.open(path).convert('RGB')).astype(int)


def test_it_draws_every_kind_of_molecule(tmp_path):
    broken = Data(z=torch.tensor([6]), pos=torch.full((1, 3), float('nan')))
    molecules = [METHANE, line(1), line(1, 1, step=0.74), line(8, 6, 8), line(6, 7), line(118, 1), None, broken]
    draw_grid(molecules, tmp_path / 'grid.png', columns=3, size=90)
    image = pixels(tmp_path / 'grid.png')
    assert image.shape == (3 * 110, 3 * 90, 3)
    cells = [image[i // 3 * 110:i // 3 * 110 + 90, i % 3 * 90:i % 3 * 90 + 90] for i in range(9)]
    assert [bool((cell < 200).any()) for cell in cells] == [True] * 6 + [False] * 3
    assert (image[:, [0, -1]] == 255).all()


def test_colors_tell_the_elements(tmp_path):
    draw_grid([line(8, 6, 8)], tmp_path / 'co2.png', size=120, captions=[''])
    image = pixels(tmp_path / 'co2.png')
    red = (image[..., 0] > image[..., 1] + 80) & (image[..., 0] > image[..., 2] + 80)
    dark = image.max(-1) < 110
    assert red.sum() > 200 and dark.sum() > 50


def test_two_drawings_are_equal_and_the_input_stays(tmp_path):
    before = METHANE.pos.clone()
    for name in 'ab':
        draw_grid([METHANE, line(6, 8)], tmp_path / f'{name}.png', size=64)
    assert (tmp_path / 'a.png').read_bytes() == (tmp_path / 'b.png').read_bytes()
    assert torch.equal(METHANE.pos, before)


@pytest.mark.parametrize('molecules, arguments, message', [
    ([], {}, "'molecules' must hold at least one molecule"),
    ([METHANE], {'columns': 0}, "'columns' must be at least 1 and 'size' at least 32 pixels \\(got 0 and 260\\)"),
    ([METHANE], {'size': 3}, "'columns' must be at least 1 and 'size' at least 32 pixels \\(got 4 and 3\\)"),
    ([METHANE], {'captions': ['a', 'b']}, "'captions' must be one a molecule, 1 \\(got 2\\)"),
])
def test_bad_arguments(tmp_path, molecules, arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_grid(molecules, tmp_path / 'x.png', **arguments)
    assert not list(tmp_path.iterdir())
