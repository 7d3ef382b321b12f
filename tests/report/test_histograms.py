r"""Histograms as SVG."""
from types import SimpleNamespace

import pytest

from torch_geometric_inertial.report.histograms import HEIGHT, _density, _quantile, histograms


def judged(sizes, lengths=None, reference=None):
    return SimpleNamespace(sizes=sizes, reference=reference,
                           distributions={'bond_lengths': {'C-C': lengths}} if lengths else {})


def test_shares_add_to_one_with_what_lies_outside():
    bins = {1: 2, 5: 4, 90: 2}
    density = _density(bins, 0, 9, 2)
    assert sum(density) == pytest.approx(1) and density == [0.25, 0, 0.5, 0, 0.25]
    assert _quantile(bins, 0.2) == 1 and _quantile(bins, 0.5) == 5 and _quantile(bins, 1) == 90


def test_like_distributions_have_no_divergence_and_the_same_path():
    one = judged({7: 2, 8: 6}, {150: 3, 154: 9}, 'real')
    drawn = histograms({'a': one}, {'a': one}, {'a': '#123456'})
    assert drawn.count('<figure>') == 2 and drawn.count('<b style="color:#123456">0.000</b>') == 2
    assert 'Reference, gray: real.' in drawn and 'bond length C-C (Å)' in drawn
    paths = [part.partition('"')[0].rstrip('Z') for part in drawn.split(' d="')[1:]]
    assert paths[0] == paths[1] and paths[2] == paths[3] and f'V{HEIGHT}' in paths[0]


def test_wild_values_do_not_squeeze_the_reference():
    real, wild = judged({8: 9}, {n: 10 for n in range(150, 160)}), judged({8: 9}, {150: 9, 900: 1})
    drawn = histograms({'a': wild}, {'a': real}, {'a': '#000000'})
    assert '>1.5<' in drawn and '>1.62<' in drawn and '>9<' not in drawn


def test_names_are_escaped():
    drawn = histograms({'<a>': judged({8: 1})}, {'<a>': judged({8: 1})}, {'<a>': '#000000'})
    assert 'No bonds came with &lt;a&gt;' in drawn and '<a>' not in drawn
