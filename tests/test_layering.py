r"""Imports point down only, and optional packages are imported where they are used."""
import ast
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = 'torch_geometric_inertial'
ROOT = Path(__file__).parents[1] / PACKAGE

#: Part of the package -> the parts that it may import besides itself.
BELOW = {
    'elements': set(),
    'fields': set(),
    'data': {'fields'},
    'files': set(),
    'frames': {'elements'},
    'ops': {'elements'},
    'superpose': {'ops'},
    'nn': {'ops', 'frames', 'elements'},
    'generation': {'nn', 'frames', 'elements'},
    'models': {'generation', 'data', 'nn', 'ops', 'frames', 'elements', 'files'},
    'chem': {'data', 'superpose', 'frames', 'elements', 'files'},
    'transforms': {'data', 'fields', 'frames', 'chem', 'elements'},
    'datasets': {'chem', 'elements', 'files'},
    'training': {'data', 'models', 'nn', 'superpose', 'ops', 'frames', 'elements', 'files'},
    'metrics': {'data', 'models', 'transforms', 'chem', 'nn', 'ops', 'frames', 'elements', 'files'},
    'calculators': {'data', 'models', 'elements'},
    'testing': {'data', 'frames', 'elements', 'chem'},
    '__main__': {'cli'},
    'cli': {'training', 'metrics', 'models', 'datasets', 'transforms', 'chem', 'nn', 'ops', 'frames', 'elements',
            'data', 'files'},
}
#: Part -> packages that it must not know.
UNKNOWN = {
    'elements': {'torch_geometric'},
    'frames': {'torch_geometric'},
    'superpose': {'torch_geometric'},
    'ops': {'torch_geometric'},
    'nn': {'rdkit', 'argparse'},
    'generation': {'rdkit', 'argparse'},
    'models': {'rdkit', 'argparse'},
}
#: Packages that training from tensors does without. A guarded import (try) is no harm.
OPTIONAL = {'rdkit', 'ase', 'jsonargparse', 'posebusters', 'matplotlib', 'PIL', 'py3Dmol', 'scipy', 'torch_scatter',
            'lmdb'}


class Import(NamedTuple):
    name: str  # dotted
    line: int
    outermost: bool  # runs when its module is imported, unguarded


def imports_of(source: str, package: tuple[str, ...] = (PACKAGE,)) -> list[Import]:
    found: list[Import] = []

    def walk(node: ast.AST, outermost: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and 'TYPE_CHECKING' in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                found.extend(Import(alias.name, child.lineno, outermost) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = package[:len(package) + 1 - child.level] if child.level else ()
                module = '.'.join([*base, *([child.module] if child.module else [])])
                found.extend(Import(f'{module}.{alias.name}', child.lineno, outermost) for alias in child.names)
            walk(child, outermost and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Try))

    walk(ast.parse(source), True)
    return found


MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob('*.py'))


@pytest.mark.parametrize('module', MODULES, ids=str)
def test_imports_point_down_only(module):
    part = module.parts[0].removesuffix('.py')
    for name, line, outermost in imports_of((ROOT / module).read_text(), (PACKAGE, *module.parts[:-1])):
        where = f'{PACKAGE}/{module}:{line} imports {name}'
        top, *rest = name.split('.')
        assert top not in UNKNOWN.get(part, set()), where
        if top in OPTIONAL:
            assert not outermost or (part, top) == ('calculators', 'ase'), f'{where} at import time'
            assert top != 'rdkit' or part == 'chem', f'{where} outside chem'
        if top == PACKAGE and part in BELOW and rest:
            assert rest[0] in BELOW[part] | {part, '_C', '_CUDA'}, where


def test_the_walk_sees_what_it_should():
    source = '''
import a
from b import c
if TYPE_CHECKING:
    import unseen
try:
    import guarded
except ImportError:
    pass
class K:
    import inner
    def f(self):
        from deep.er import x
from . import near
from ..far import y
'''
    assert [(i.name, i.outermost) for i in imports_of(source, ('pkg', 'part'))] == [
        ('a', True), ('b.c', True), ('guarded', False), ('inner', True), ('deep.er.x', False),
        ('pkg.part.near', True), ('pkg.far.y', True)]


def test_the_package_imports_without_optional_packages():
    code = f'''
import importlib, pkgutil, sys
for name in {sorted(OPTIONAL)}:
    sys.modules[name] = None
import {PACKAGE}
for module in pkgutil.walk_packages({PACKAGE}.__path__, '{PACKAGE}.'):
    if not module.name.split('.')[1] in ('calculators', 'cli', '_C', '_CUDA'):
        importlib.import_module(module.name)
'''
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT.parent)
    assert result.returncode == 0, result.stderr
