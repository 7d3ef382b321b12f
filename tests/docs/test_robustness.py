"""The page of bad inputs and faults names tests that exist, one at least in each row."""
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAME = re.compile(r'`(tests/[\w/]+\.py)::(test_\w+)`')


def rows():
    lines = (ROOT / 'docs' / 'robustness.md').read_text(encoding='utf-8').splitlines()
    return [line for line in lines if re.match(r'\| (?!(input|fault) \|)', line)]


def test_every_row_has_its_test():
    assert len(rows()) >= 31
    for row in rows():
        found = NAME.findall(row.rsplit(' | ', 1)[1])
        assert found, row
        for path, name in found:
            assert re.search(rf'^def {name}\(', (ROOT / path).read_text(encoding='utf-8'), re.MULTILINE), name
