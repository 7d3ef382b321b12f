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


def test_the_readme_is_short():
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    assert len(text.splitlines()) <= 100
    assert len(re.findall(r'(?<!!)\[[^]]*\]\([^)]*\)', text.replace('`', ''))) == 4  # links; the picture is none
    assert len(re.findall(r'^\|[-| ]+\|$', text, re.MULTILINE)) == 1 and text.count('```python') == 1


def anchors(text):
    return {re.sub(r'[^\w\- ]', '', heading).strip().lower().replace(' ', '-')
            for heading in re.findall(r'^#+ (.*)$', text, re.MULTILINE)}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    text = re.sub(r'```.*?```|`[^`\n]*`', '', page.read_text(encoding='utf-8'), flags=re.DOTALL)  # no code
    for link in re.findall(r'\]\(([^)\s]+)\)', text):
        name, _, anchor = link.partition('#')
        if '://' in link:
            continue
        other = page.parent / name if name else page
        assert other.exists(), link
        assert not anchor or anchor in anchors(other.read_text(encoding='utf-8')), link
