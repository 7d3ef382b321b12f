"""The writing of a molecule: its moments, as a GIF and as a page."""
import json
import re
from itertools import pairwise

import pytest
import torch

from torch_geometric_inertial import InertialAR
from torch_geometric_inertial.models.written_paths import written_paths
from torch_geometric_inertial.report import write_animation
from torch_geometric_inertial.report.animation import frames

Image = pytest.importorskip('PIL.Image')
FAST = dict(num_steps=4)


@pytest.fixture(scope='module')
def model():
    return InertialAR.from_pretrained('qm9')


def test_moments_put_atom_after_atom(model):
    data, ways = written_paths(model, **FAST)
    shown = list(frames(data.pos, ways))
    assert [one.placed for one in shown if not one.way] == list(range(1, len(data.z) + 1))
    for before, after in pairwise(shown):
        assert after.placed - before.placed == (0 if after.way else 1) and len(after.way) in (0, 1, len(before.way) + 1)
    center = data.pos.mean(0)
    far = 1.5 * float((data.pos - center).norm(dim=1).max())
    assert all((torch.tensor(place) - center).norm() < far for one in shown for place in one.way)


def test_the_gif_moves_and_stops_at_the_whole(model, tmp_path):
    data = write_animation(model, tmp_path / 'x.gif', index=1, **FAST, size=80)
    picture = Image.open(tmp_path / 'x.gif')
    assert picture.format == 'GIF' and picture.size == (80, 80) and picture.n_frames > len(data.z)
    assert picture.info['duration'] == 60 and picture.info['loop'] == 0
    dark = []
    for i in range(picture.n_frames):
        picture.seek(i)
        dark.append(sum(picture.convert('L').histogram()[:200]))
    assert dark[-1] > 3 * dark[0] and picture.info['duration'] == 3000


def stored(path):
    return json.loads(re.search(r'id="data">(.*?)</script>', path.read_text(encoding='utf-8'), re.DOTALL)[1])


def test_what_the_page_holds(model, tmp_path):
    data = write_animation(model, tmp_path / 'x.html', **FAST)
    content = stored(tmp_path / 'x.html')
    places = torch.tensor(content['molecule']['pos'])
    assert len(content['molecule']['elem']) == len(data.z)
    torch.testing.assert_close(torch.cdist(places, places), torch.cdist(data.pos, data.pos), atol=5e-3, rtol=0)
    assert content['frames'][-1] == dict(placed=len(data.z), way=[])
    # a way is told in the axes of the picture: it comes to where the atom is shown
    ways = [one for one in content['frames'] if one['way']]
    steps = [(torch.tensor(one['way'][-1]) - places[one['placed']]).norm() for one in ways]
    last = {one['placed']: float(step) for one, step in zip(ways, steps, strict=True)}
    assert min(last.values()) < 0.5


def test_in_a_browser(model, tmp_path, browse):
    data = write_animation(model, tmp_path / 'x.html', **FAST)
    tab = browse(tmp_path / 'x.html')
    tab.evaluate('play(false); show(last)')
    assert tab.evaluate('document.querySelector("#said").textContent') == f'{len(data.z)} of {len(data.z)} atoms'
    assert tab.evaluate('document.querySelectorAll("#viewer canvas").length') == 1
    tab.click('#play')
    assert tab.evaluate('moment') < tab.evaluate('last') and tab.complaints == []


@pytest.mark.parametrize('arguments, message', [
    (dict(out='x.mp4'), r"'out' must end in .gif or .html \(got 'x.mp4'\)"),
    (dict(out='x.gif', size=10), r"'size' must be 32 to 2000 pixels \(got 10\)"),
    (dict(out='x.gif', index=-1), r"'index' must be at least 0 \(got -1\)"),
])
def test_bad_input(model, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        write_animation(model, **arguments)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_no_animation(model, tmp_path):
    (tmp_path / 'x.gif').mkdir()
    with pytest.raises(ValueError, match=r"'out' must be a file, not a folder \(got '"):
        write_animation(model, tmp_path / 'x.gif')
