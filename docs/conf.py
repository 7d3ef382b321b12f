"""Sphinx: `make docs` builds these pages into docs/_build/html."""
import json

import torch_geometric_inertial

project = 'torch_geometric_inertial'
author = 'the authors of torch_geometric_inertial'
release = version = torch_geometric_inertial.__version__
extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.mathjax', 'sphinx.ext.napoleon']
myst_enable_extensions = ['dollarmath']
myst_heading_anchors = 3
source_suffix = {'.md': 'markdown', '.rst': 'restructuredtext', '.ipynb': 'markdown'}
exclude_patterns = ['_build']
html_theme = 'furo'
autodoc_typehints = 'none'  # the docstrings say it
autodoc_member_order = 'bysource'
autodoc_default_options = dict(members=True, undoc_members=False)
suppress_warnings = ['myst.xref_missing']  # links to files of the repository outside the pages


def read_notebook(app, docname, source):
    """A notebook, which has no outputs, is shown as the Markdown page that its cells make."""
    if str(app.env.doc2path(docname)).endswith('.ipynb'):
        cells = ((cell['cell_type'], ''.join(cell['source'])) for cell in json.loads(source[0])['cells'])
        source[0] = '\n\n'.join(text if kind == 'markdown' else f'```python\n{text}\n```' for kind, text in cells)


def setup(app):
    app.connect('source-read', read_notebook)
    # the fields of named tuples stand in their docstrings
    app.connect('autodoc-skip-member',
                lambda app, what, name, obj, skip, options: skip or type(obj).__name__ == '_tuplegetter')
