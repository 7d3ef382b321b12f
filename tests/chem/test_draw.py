import sys
from xml.etree import ElementTree

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
    ([METHANE], {'names': []}, "'names' must be one a molecule, 1 \\(got 0\\)"),
])
def test_bad_arguments(tmp_path, molecules, arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_grid(molecules, tmp_path / 'x.png', **arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', ['x.jpg', 'x.html', 'x', 'x.png.gz'])
def test_a_picture_is_what_its_name_says(tmp_path, name):
    with pytest.raises(ValueError, match=f"'path' must end in .png or .svg .got '.*{name}'"):
        draw_grid([METHANE], tmp_path / name)
    assert not list(tmp_path.iterdir())
    draw_grid([METHANE], tmp_path / 'x.PNG', size=40)
    assert (tmp_path / 'x.PNG').read_bytes().startswith(b'\x89PNG')


def elements(path, tag):
    return list(ElementTree.parse(path).getroot().iter(f'{{http://www.w3.org/2000/svg}}{tag}'))


def test_svg_has_a_circle_for_an_atom_and_lines_for_bonds(tmp_path):
    draw_grid([METHANE, line(8, 6, 8, step=1.2), None], tmp_path / 'x.svg', size=100, names=['a & <b>', 'c', ''])
    drawn = [one for one in elements(tmp_path / 'x.svg', 'circle') if one.get('fill').startswith('url')]
    assert len(drawn) == 5 + 3 and not elements(tmp_path / 'x.svg', 'image')
    assert len(elements(tmp_path / 'x.svg', 'line')) == 2 * (4 + 2 * 2)  # each with its edge
    texts = [''.join(one.itertext()) for one in elements(tmp_path / 'x.svg', 'text')]
    draw_grid([METHANE], tmp_path / 'y.svg', size=100, names=['long ' * 30])
    assert ''.join(elements(tmp_path / 'y.svg', 'text')[1].itertext()) == 'long long long lo…'
    assert texts[1] == 'a & <b>' and texts[2].startswith('●') and 'CO' in texts[2] and texts[4] == '–'


def test_svg_and_png_have_the_atoms_in_the_same_places(tmp_path):
    for name in ('x.svg', 'x.png'):
        draw_grid([line(8, 6, 8)], tmp_path / name, size=120, captions=[''])
    image = pixels(tmp_path / 'x.png')
    red = (image[..., 0] > image[..., 1] + 80) & (image[..., 0] > image[..., 2] + 80)
    atoms = [one for one in elements(tmp_path / 'x.svg', 'circle') if one.get('fill') == 'url(#e8)']
    assert len(atoms) == 2
    for atom in atoms:
        x, y = (round(60 + float(atom.get(name))) for name in ('cx', 'cy'))
        assert red[y + 2, x]


@pytest.mark.parametrize('ending', ['png', 'svg'])
def test_names_and_a_legend_take_room_below(tmp_path, ending):
    for name, more in (('a', {}), ('b', dict(names=['long ' * 30])), ('c', dict(names=['x'], legend=True))):
        draw_grid([METHANE], tmp_path / f'{name}.{ending}', size=90, **more)
    sizes = [Image.open(tmp_path / f'{name}.png').size if ending == 'png' else
             tuple(int(ElementTree.parse(tmp_path / f'{name}.svg').getroot().get(k)) for k in ('width', 'height'))
             for name in 'abc']
    assert sizes == [(90, 110), (90, 122), (90, 146)]
    if ending == 'png':
        below = [(pixels(tmp_path / f'{name}.png')[90:] < 200).any(-1).sum() for name in 'abc']
        assert below[0] < min(below[1], below[2])
    else:
        texts = [''.join(one.itertext()) for one in elements(tmp_path / 'c.svg', 'text')]
        assert texts[2:] == ['H', 'C', 'all valences are right', 'a valence is wrong']


def test_a_drawing_needs_no_pillow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'PIL', None)
    draw_grid([METHANE], tmp_path / 'x.svg')
    with pytest.raises(ImportError, match='drawing needs Pillow: pip install'):
        draw_grid([METHANE], tmp_path / 'x.png')
