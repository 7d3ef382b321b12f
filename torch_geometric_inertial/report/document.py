r"""A page as one file: a template, and what its scripts read, with all that they need."""
from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch_geometric_inertial.report.library import json_script, library, static


def document(body: str, title: str, data: Any, *, css: str, script: str) -> str:
    r"""A page that needs no network.

    Args:
        body: HTML.
        title: HTML.
        data: What the script reads from the element ``data``; JSON-able.
        css: Rules beside those of all pages.
        script: JavaScript; 3Dmol.js and ``MoleculeView`` are there before it.
    """
    return filled(static('document.html'), dict(
        title=title,
        css=static('page.css') + css,
        body=body,
        data=json_script(json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(',', ':'))),
        library=library(),
        script=static('viewer.js') + script,
    ))


def filled(template: str, parts: Mapping[str, str]) -> str:
    r"""A template with ``{{name}}`` for each part; what a part holds is not looked at."""
    pieces = template.split('{{')
    return pieces[0] + ''.join(parts[name] + rest for name, _, rest in (one.partition('}}') for one in pieces[1:]))
