r"""Imports point down only, optional packages are imported where they are used, and tests stand where their module
does."""
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
    'permute': {'fields'},
    'files': set(),
    'signals': set(),
    'frame_candidates': set(),
    'frames': {'frame_candidates', 'elements'},
    'ops': {'elements'},
    'neighbors': {'ops'},
    'superpose': {'ops'},
    'nn': {'ops', 'neighbors', 'frames', 'elements'},
    'generation': {'nn', 'frames', 'elements'},
    'models': {'data', 'generation', 'nn', 'ops', 'neighbors', 'frames', 'elements', 'files', 'chem', 'transforms'},
    'chem': {'data', 'superpose', 'frames', 'elements', 'files'},
    'transforms': {'data', 'fields', 'permute', 'frames', 'chem', 'elements'},
    'datasets': {'chem', 'transforms', 'elements', 'files'},
    'training': {'data', 'models', 'nn', 'superpose', 'ops', 'neighbors', 'frames', 'elements',
                 'files', 'permute', 'signals'},
    'metrics': {'data', 'models', 'transforms', 'chem', 'nn', 'ops', 'neighbors', 'frames', 'superpose', 'elements',
                'files'},
    'calculators': {'data', 'models', 'elements'},
    'testing': {'data', 'fields', 'permute', 'frames', 'elements', 'chem'},
    'report': {'data', 'metrics', 'models', 'chem', 'frames', 'superpose', 'elements', 'files'},
    'refinement': {'metrics', 'models', 'chem'},
    '__main__': {'cli'},
    'cli': {'report', 'refinement', 'calculators', 'training', 'metrics', 'models', 'datasets', 'transforms', 'chem',
            'nn', 'ops', 'frames', 'elements', 'data', 'files', 'signals'},
}
#: Part -> packages that it must not know.
UNKNOWN = {
    'elements': {'torch_geometric'},
    'frames': {'torch_geometric'},
    'frame_candidates': {'torch_geometric'},
    'superpose': {'torch_geometric'},
    'ops': {'torch_geometric'},
    'neighbors': {'torch_geometric'},
    'nn': {'rdkit', 'argparse'},
    'generation': {'rdkit', 'argparse'},
    'models': {'rdkit', 'argparse'},
}
#: Packages that training from tensors does without. A guarded import (try) is no harm.
OPTIONAL = {'rdkit', 'ase', 'jsonargparse', 'posebusters', 'matplotlib', 'PIL', 'py3Dmol', 'scipy', 'torch_scatter',
            'lmdb', 'pyarrow', 'ray', 'msgpack'}


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


def modules_imported(module: Path) -> set[Path]:
    """The modules of the same part of the package that a module imports, at the top or in a function."""
    folder, found = module.parts[0], set()
    for name, _, _ in imports_of((ROOT / module).read_text(), (PACKAGE, *module.parts[:-1])):
        top, *rest = name.split('.')
        if top != PACKAGE or rest[:1] != [folder]:
            continue
        candidates = [Path(*rest[:length]).with_suffix('.py') for length in range(len(rest), 1, -1)]
        found |= {next((path for path in candidates if path in MODULES), Path(folder, '__init__.py'))}
    return found - {module}


def loop_among(imports: dict) -> list | None:
    """A way from a module back to itself, if there is one."""
    done: set = set()

    def walk(module, path: list) -> list | None:
        if module in path:
            return [*path[path.index(module):], module]
        if module in done:
            return None
        found = next(filter(None, (walk(other, [*path, module]) for other in sorted(imports[module]))), None)
        done.add(module)
        return found

    return next(filter(None, (walk(module, []) for module in sorted(imports))), None)


@pytest.mark.parametrize('package', sorted({module.parts[0] for module in MODULES if len(module.parts) > 1}))
def test_no_two_modules_of_a_package_import_each_other_in_a_loop(package):
    modules = [module for module in MODULES if module.parts[0] == package and module.name != '__init__.py']
    loop = loop_among({module: modules_imported(module) & set(modules) for module in modules})
    assert loop is None, ' imports '.join(map(str, loop))


def test_a_loop_is_found():
    assert loop_among({'a': {'b', 'c'}, 'b': {'c'}, 'c': set()}) is None
    assert loop_among({'a': {'b'}, 'b': {'c'}, 'c': {'d', 'b'}, 'd': set()}) == ['b', 'c', 'b']
    assert modules_imported(Path('nn', 'geo_rope_geometry.py')) >= {Path('nn', 'kv_cache.py'), Path('nn', 'packing.py')}
    assert Path('nn', 'nystrom.py') in modules_imported(Path('nn', '__init__.py'))  # a relative import


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


#: Tests of no single module, and what they hold.
ACROSS_MODULES = {
    'test_cuda_compiles.py': 'every kernel of csrc/cuda, compiled',
    'test_cuda_on_cpu.py': 'kernels of csrc/cuda, run on the CPU',
    'test_gpu.py': 'all that needs a GPU',
    'test_layering.py': 'the layout of the package',
    'test_setup.py': 'setup.py',
    'chem/test_round_trips.py': 'our files, RDKit and Open Babel',
    'cli/test_generators.py': 'the commands of generators, one after the other',
    'models/test_bundled_predictors.py': 'the weights that the package ships',
    'models/test_bundled_weights.py': 'the weights that the package ships',
    'models/test_geomformer_symmetry.py': 'a law of geomformer.py',
    'models/test_geomformer_training.py': 'geomformer.py under autocast, compilation and training',
    'models/test_n_body_models.py': 'velocities in all predictors',
    'models/test_painn_and_torchmd_net.py': 'the two special cases, which share their tests',
    'models/test_periodic.py': 'lattices in all predictors',
    'models/test_tags.py': 'tags in all predictors',
    'ops/test_simd.py': 'csrc/cpu/simd.h',
    'training/test_many_ranks.py': 'trainings of several processes',
    'training/test_properties.py': 'conditions from a data set to molecules',
    'transforms/test_malformed_molecules.py': 'bad input of all transforms',
}


def test_tests_stand_where_their_module_does():
    tests = Path(__file__).parent
    here = {path.relative_to(tests) for path in tests.rglob('test_*.py')}
    here = {path for path in here if path.parts[0] not in ('docs', 'examples', 'fuzz')}
    elsewhere = {str(path) for path in here if path.with_name(path.name.removeprefix('test_')) not in MODULES}
    assert elsewhere == set(ACROSS_MODULES)


SOURCES = [path for folder in (ROOT, ROOT.parent / 'csrc') for path in folder.rglob('*')
           if path.suffix in ('.py', '.cpp', '.cu', '.h', '.cuh')]


@pytest.mark.parametrize('path', SOURCES, ids=lambda path: path.name)
def test_no_file_is_above_350_lines_without_a_reason(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= 350 or any('350 lines' in line for line in lines[:12]), f'{path}: {len(lines)} lines'


@pytest.mark.parametrize('path', sorted((ROOT.parent / 'examples').glob('*.py')), ids=lambda path: path.name)
def test_examples_are_short_and_public(path):
    """At most 100 lines and 10 flags, and nothing from a private place."""
    source = path.read_text()
    assert len(source.splitlines()) <= 100 and source.count('add_argument(') <= 10
    for name, *_ in imports_of(source):
        if name.startswith(PACKAGE):
            assert not any(part.startswith('_') for part in name.split('.')), name
