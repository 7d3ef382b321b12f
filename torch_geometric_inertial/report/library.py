r"""3Dmol.js, which draws molecules in a browser, as a part of this package, so that pages need no network."""
from __future__ import annotations

from functools import cache
from importlib.resources import files

#: Rego & Koes, Bioinformatics 31, 1322 (2015), doi:10.1093/bioinformatics/btu829. `build/3Dmol-min.js` of the npm
#: package `3dmol`, unchanged; its license stands in `static/3Dmol-LICENSE.txt` and in every page.
VERSION = '2.5.5'
SHA256 = 'f7cc78921ae72e7623e89cdd111434f58c2efddd2ffda1cd212644b406fb8016'


@cache
def static(name: str) -> str:
    r"""A file of ``report/static``."""
    return files('torch_geometric_inertial.report').joinpath('static', name).read_text(encoding='utf-8')


def library() -> str:
    r"""3Dmol.js and, before it, its license, as the content of a ``<script>`` element."""
    license = static('3Dmol-LICENSE.txt').replace('*/', '* /')
    return f'/* 3Dmol.js {VERSION}\n\n{license}*/\n{static("3Dmol-min.js")}'.replace('</script', '<\\/script')


def json_script(text: str) -> str:
    r"""JSON that can stand in a ``<script>`` element."""
    return text.replace('<', '\\u003c').replace('\u2028', '\\u2028').replace('\u2029', '\\u2029')
