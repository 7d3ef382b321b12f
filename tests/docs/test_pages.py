"""The code on the pages runs, block after block, as a reader would run it."""
import re
from pathlib import Path

import pytest

pytest.importorskip('rdkit')

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_code_of_the_page_runs(page):
    namespace: dict = {}
    for block in re.findall(r'```python\n(.*?)```', page.read_text(encoding='utf-8'), re.DOTALL):
        exec(compile(block, str(page), 'exec'), namespace)
