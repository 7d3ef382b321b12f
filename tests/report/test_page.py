r"""The page, and what a real browser makes of it."""
import hashlib
import json
import re

import pytest
import torch
from helpers.embedded import data_of, embedded, without

from torch_geometric_inertial import report
from torch_geometric_inertial.report.library import SHA256, VERSION, library, static

pytest.importorskip('rdkit')


@pytest.fixture(scope='module')
def molecules():
    named = {'ethanol': embedded('CCO'), 'nitromethane': embedded('C[N+](=O)[O-]'), 'radical': without(
        embedded('CC#N'), 5)}
    for title, data in named.items():
        data.title = title
    return list(named.values())


@pytest.fixture(scope='module')
def page(molecules, tmp_path_factory):
    path = tmp_path_factory.mktemp('page') / 'page.html'
    far = data_of([1, 1, 1, 1], [[0, 0, 0], [0.74, 0, 0], [9, 0, 0], [9.74, 0, 0]], [(0, 1), (2, 3)], [1, 1],
                  title='<b>two & "H2"</b></script>')
    reports = report.write_report({'mine': molecules, 'its </script> name': [far, None, embedded('c1ccncc1')]}, path)
    return path, reports


def stored(path):
    text = path.read_text(encoding='utf-8')
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_what_the_page_holds(page):
    path, reports = page
    assert [one.protocol for one in reports.values()] == ['bonds', 'bonds']
    data = stored(path)
    assert [m['status'] for m in data['molecules']] == ['ok', 'ok', 'radical', 'disconnected', 'missing', 'ok']
    assert data['molecules'][3]['title'] == '<b>two & "H2"</b></script>'
    assert data['molecules'][3]['reason'] == '2 pieces: H2 + H2'
    assert data['molecules'][2]['reason'] == 'C1, charge 0, has valence 3 instead of 4'
    assert data['molecules'][2]['bad'] == [0]
    assert sorted(data['molecules'][1]['charges'].values()) == [-1, 1]
    assert [order for *_, order in data['molecules'][5]['bonds']].count(2) == 3  # Kekulé bonds of the file
    assert data['sets'][1]['failures'] == {'disconnected': 1, 'missing': 1, 'ok': 1}
    assert 'elem' not in data['molecules'][4]
    text = path.read_text(encoding='utf-8')
    assert '&lt;/script&gt; name' in text and text.count('</script>') == 3  # texts of others are texts
    assert '>66.67<' in text and '20.77 – 93.85' in text and '99.50' in text  # value, interval, reference
    assert 'bond length C-C' in text and 'Reference, gray: QM9, 10000 molecules' in text


def test_molecules_stand_in_their_inertial_frames(page, molecules):
    pos = torch.tensor(stored(page[0])['molecules'][0]['pos'], dtype=torch.float64)
    assert torch.allclose(pos.mean(0), torch.zeros(3).double(), atol=1e-3)
    inertia = pos.square().sum() * torch.eye(3).double() - pos.T @ pos
    assert torch.allclose(inertia, inertia.diag().diag(), atol=0.02)
    assert bool((inertia.diag().diff() > 0).all())
    own = molecules[0].pos
    torch.testing.assert_close(torch.cdist(pos, pos), torch.cdist(own, own), atol=3e-3, rtol=0)


def test_the_worst_failures_are_there_whatever_the_number(molecules, tmp_path):
    report.write_report({'x': [molecules[0]] * 5 + [molecules[2]]}, tmp_path / 'x.html', num_shown=2)
    shown = stored(tmp_path / 'x.html')['molecules']
    assert [(m['number'], m['status']) for m in shown] == [(0, 'ok'), (5, 'radical')]


def test_a_reference_of_ones_own(molecules, tmp_path):
    reports = report.write_report({'x': molecules}, tmp_path / 'x.html', reference=molecules[:2])
    assert reports['x'].figures['ok'].reference == 1.0
    assert 'Reference, gray: 2 given' in (tmp_path / 'x.html').read_text()


def test_molecules_without_bonds_have_sizes_and_bonds_from_distances(molecules, tmp_path):
    bare = molecules[0].clone()
    del bare.edge_index, bare.edge_attr
    assert report.write_report({'x': [bare]}, tmp_path / 'x.html')['x'].protocol == 'edm-qm9'
    text, (molecule, ) = (tmp_path / 'x.html').read_text(), stored(tmp_path / 'x.html')['molecules']
    assert len(molecule['bonds']) == 8 and not molecule['own_bonds']
    assert 'No bonds came with x' in text and 'heavy atoms' in text


@pytest.mark.parametrize('kwargs, message', [
    (dict(molecules={}), "'molecules' must be 1 to 6 sets (got 0)"),
    (dict(molecules={'x': []}), "'molecules' must hold at least one molecule"),
    (dict(out='page.pdf'), "'out' must end in .html (got 'page.pdf')"),
    (dict(num_shown=0), "'num_shown' must be at least 1 (got 0)"),
    (dict(protocol='fame'), "'protocol' must be one of bonds, "),
])
def test_bad_input(molecules, tmp_path, kwargs, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        report.write_report(**dict(molecules={'x': molecules}, out=tmp_path / 'x.html') | kwargs)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_no_page(molecules, tmp_path):
    (tmp_path / 'x.html').mkdir()
    with pytest.raises(ValueError, match=re.escape("'out' must be a file, not a folder (got '")):
        report.write_report({'x': molecules}, tmp_path / 'x.html')


def test_the_library_is_the_one_that_is_named():
    assert hashlib.sha256(static('3Dmol-min.js').encode()).hexdigest() == SHA256
    assert f'3Dmol.js {VERSION}' in library() and 'Redistributions in binary form' in library()


def pixels(tab):
    """How many points of the large picture are not background."""
    return tab.evaluate('''(() => {
        const gl = document.querySelector("#viewer canvas"), flat = document.createElement("canvas");
        flat.width = gl.width; flat.height = gl.height; view.viewer.render();
        const pen = flat.getContext("2d"); pen.drawImage(gl, 0, 0);
        const d = pen.getImageData(0, 0, flat.width, flat.height).data; let n = 0;
        for (let i = 0; i < d.length; i += 4) n += Math.abs(d[i] - 249) + Math.abs(d[i + 1] - 250) > 20;
        return n })()''')


def test_in_a_browser(page, browse):
    tab = browse(page[0])
    heading = 'document.querySelector("#facts h3").textContent'
    visible = '[...document.querySelectorAll(".card")].filter(e => e.style.display !== "none").length'
    assert tab.evaluate(heading) == 'ethanol C2H6O ok'
    assert tab.evaluate('document.querySelectorAll("#viewer canvas").length') == 1 and pixels(tab) > 1000
    assert tab.evaluate('document.querySelectorAll(".column").length') == 2
    tab.click('.column:nth-child(1) .card:nth-child(3)')  # another molecule
    assert tab.evaluate(heading).startswith('radical')
    assert tab.evaluate('document.querySelector("#facts").innerText').count('valence 3 instead of 4') == 1
    assert tab.evaluate(visible) == 6  # the filter
    tab.click('.chip[data-status="ok"]')
    assert tab.evaluate(visible) == 3
    tab.click('.chip[data-status="ok"]')
    tab.click('.failing > div:nth-child(2) tr:nth-child(2)')  # a line of the failures
    assert tab.evaluate(heading) == '<b>two & "H2"</b></script> H4 disconnected'
    tab.click('#next')
    assert tab.evaluate(heading).startswith('molecule 1')
    tab.click('.column:nth-child(1) .card:nth-child(1)')
    before = pixels(tab)
    tab.click('#axes')  # three arrows
    assert pixels(tab) != before
    assert tab.complaints == []


def test_small_pictures_turn_with_the_large_one(page, browse):
    tab = browse(page[0])
    before = tab.evaluate('[turn, document.querySelector(".card canvas").toDataURL()]')
    x, y = tab.evaluate('(r => [r.x + 200, r.y + 200])(document.querySelector("#viewer").getBoundingClientRect())')
    for kind, dx in (('mousePressed', 0), ('mouseMoved', 60), ('mouseReleased', 60)):
        tab.call('Input.dispatchMouseEvent', type=kind, x=x + dx, y=y, button='left', buttons=1, clickCount=1)
    tab.evaluate('new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))')
    after = tab.evaluate('[turn, document.querySelector(".card canvas").toDataURL()]')
    assert before[0] != after[0] and before[1] != after[1] and tab.complaints == []
