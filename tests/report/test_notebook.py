r"""Molecules in a notebook."""
import re
import sys

import pytest
from helpers.embedded import embedded

import torch_geometric_inertial
from torch_geometric_inertial.chem import to_ase, to_mol, write_sdf
from torch_geometric_inertial.report import view
from torch_geometric_inertial.report.library import static

pytest.importorskip('rdkit')


def page_of(shown):
    return shown.write_html(fullpage=True) or shown._make_html()


def test_one_molecule_and_several():
    pytest.importorskip('py3Dmol')
    ethanol = embedded('CCO')
    assert torch_geometric_inertial.view is view
    for one in (ethanol, to_mol(ethanol), to_ase(ethanol), 'CCO'):
        html = page_of(view(one))
        assert html.count('addModel') == 1 and '440px' in html
    html = page_of(view([ethanol] * 5, columns=3, size=100))
    assert html.count('addModel') == 5 and 'rows: 2, cols: 3' in html and '300px' in html and '200px' in html


def test_bonds_are_those_of_the_molecule(tmp_path):
    pytest.importorskip('py3Dmol')
    data = embedded('C=C')
    data.edge_attr = data.edge_attr.clamp(max=1)
    for molecules in (data, tmp_path / 'x.sdf'):
        write_sdf([data], tmp_path / 'x.sdf')
        block = page_of(view(molecules)).split('addModel(')[1].split('M  END')[0]
        assert re.search(r'\\n  1  2  1', block) and not re.search(r'\\n  1  2  2', block)


@pytest.mark.parametrize('molecules, more, message', [
    ([], {}, "'molecules' must be 1 to 36 molecules (got 0)"),
    (['CCO'] * 37, {}, "'molecules' must be 1 to 36 molecules (got 37)"),
    ([None], {}, 'molecule 0 cannot be drawn: it is missing'),
    (['CCO', 'C(C'], {}, 'molecule 1 cannot be drawn: '),
    ('CCO', dict(columns=0), "'columns' must be at least 1 and 'size' at least 32 pixels (got 0 and 220)"),
])
def test_bad_input(molecules, more, message):
    pytest.importorskip('py3Dmol')
    with pytest.raises(ValueError, match=re.escape(message)):
        view(molecules, **more)


def test_without_py3dmol(monkeypatch):
    monkeypatch.setitem(sys.modules, 'py3Dmol', None)
    with pytest.raises(ImportError, match=re.escape("pip install 'torch_geometric_inertial[notebook]'")):
        view('CCO')


def test_in_a_browser(tmp_path, browse):
    pytest.importorskip('py3Dmol')
    (tmp_path / '3Dmol-min.js').write_text(static('3Dmol-min.js'))
    shown = view(['CCO', 'CC#N'], js='3Dmol-min.js')
    (tmp_path / 'x.html').write_text(f'<html><head><script></script></head><body>{page_of(shown)}</body></html>')
    tab = browse(tmp_path / 'x.html')
    tab.evaluate('$3Dmolpromise.then(() => new Promise(done => setTimeout(done, 200)))')
    assert tab.evaluate('document.querySelectorAll("canvas").length') == 1 and tab.complaints == []
