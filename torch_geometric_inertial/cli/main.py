r"""The console script: which subcommands there are, and how they fail."""
from __future__ import annotations

import inspect
import json
import os
import re
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import pairwise
from typing import Any, get_origin, get_type_hints

from torch_geometric_inertial.cli.interrupt import Stoppable, Stopped

#: Subcommand -> what it does; the function of the same name stands in the module of the same name.
COMMANDS = {
    'prepare': 'make a store of molecules for training on more than fits into memory',
    'train': 'train a generator on molecules of a file',
    'generate': 'write new molecules',
    'complete': 'grow molecules from a part',
    'hydrogens': 'place the hydrogens of molecules that lack them',
    'relax': 'relax molecules by a force field or GFN2-xTB',
    'predict': 'energies, forces or a property of molecules',
    'score': 'log-likelihood of molecules',
    'doctor': 'which kernels run here, and whether they are right',
    'evaluate': 'judge a file of molecules',
    'report': 'a page on files of molecules, with figures, distributions and 3D',
    'view': 'draw a file of molecules',
}


def main(arguments: Sequence[str] | None = None) -> int:
    r"""Runs a subcommand. What goes wrong ends in one line on stderr and exit status 1; in status 2 if the command
    cannot be carried out as it stands, for its arguments or for a package that is not there."""
    try:
        status = _run(arguments)
        sys.stdout.flush()
        return status
    except OSError as error:  # of standard output: its reader has gone (`| head`), or its disk is full
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes once more when it ends
        print(f'inertial: standard output: {error}', file=sys.stderr)
        return 1


def _run(arguments: Sequence[str] | None) -> int:
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or arguments[0] in ('-h', '--help'):
        print('usage: inertial COMMAND [--help] …\n')
        print('\n'.join(f'  {name:10} {purpose}' for name, purpose in COMMANDS.items()))
        print('\nExit status: 0, or 1 if there is no result, 2 if the command cannot be carried out as it stands (its '
              'arguments,\nweights, device, a missing package), 130 and 143 after SIGINT and SIGTERM.')
        return 0
    name, *rest = arguments
    if name == '--version':
        print(import_module('torch_geometric_inertial').__version__)
        return 0
    if name not in COMMANDS:
        print(f"inertial: no command '{name}' (there are {', '.join(COMMANDS)})", file=sys.stderr)
        return 2
    try:
        from jsonargparse import auto_cli
    except ImportError:
        print("inertial: the command line needs jsonargparse: pip install 'jsonargparse[signatures]'",
              file=sys.stderr)
        return 2
    rest = [_underscored(word) for word in rest]
    if name == 'generate' and rest and rest[0].isdecimal():  # `inertial generate 100`
        rest[0] = f'--num_samples={rest[0]}'
    command = getattr(import_module(f'torch_geometric_inertial.cli.{name}'), name)
    usual, warnings.formatwarning = warnings.formatwarning, lambda message, *_, **__: f'inertial {name}: {message}\n'
    try:
        with Stoppable():
            auto_cli(command, args=_as_list(_with_values(rest, command), command), prog=f'inertial {name}',
                     exit_on_error=False, **_explained(inspect.getdoc(command) or ''))
    except ArgumentError as error:
        print(f"inertial {name}: {' '.join(str(error).split())} (inertial {name} --help lists the options)",
              file=sys.stderr)
        return 2
    except Stopped as stopped:
        print(f'inertial {name}: stopped by {stopped}', file=sys.stderr)
        return stopped.status
    except KeyboardInterrupt:
        print(f'inertial {name}: stopped by SIGINT', file=sys.stderr)
        return 130
    except ImportError as error:
        hint = '' if 'pip install' in str(error) else f': pip install {error.name}'
        print(f'inertial {name}: {error}{hint}', file=sys.stderr)
        return 2
    except (ValueError, OSError, ArithmeticError, MemoryError) as error:
        print(f'inertial {name}: {error}', file=sys.stderr)
        return 2 if type(error).__name__ == 'BadArgument' else 1
    finally:
        warnings.formatwarning = usual
    return 0


def _explained(doc: str) -> dict[str, Any]:
    r"""What a docstring says before its arguments, and its example, which closes the help."""
    told, _, example = re.split('(?:Args|Raises):', doc)[0].partition('Example: ')
    return dict(description=' '.join(told.split()).replace('``', ''), epilog=f"Example: {' '.join(example.split())}")


def _with_values(words: Sequence[str], command: Callable) -> list[str]:
    r"""``--strict`` alone is ``--strict=true``."""
    flags = {f'--{name}' for name, p in inspect.signature(command).parameters.items() if isinstance(p.default, bool)}
    return [f'{word}=true' if word in flags and after not in ('true', 'false') else word
            for word, after in pairwise([*words, ''])]


def _as_list(words: list[str], command: Callable) -> list[str]:
    r"""``a.sdf b.sdf`` is ``["a.sdf", "b.sdf"]`` for a command whose first argument is a list."""
    if not any(get_origin(kind) is list for kind in list(get_type_hints(command).values())[:1]):
        return words
    free = [not word.startswith('-') and not (before.startswith('--') and '=' not in before)
            for before, word in pairwise(['', *words])]
    listed = [word for word, is_free in zip(words, free, strict=True) if is_free]
    rest = [word for word, is_free in zip(words, free, strict=True) if not is_free]
    return [json.dumps(listed), *rest] if listed else rest


def _underscored(word: str) -> str:
    r"""``--num-samples=3`` is ``--num_samples=3``."""
    option, *value = word.split('=', 1)
    return '='.join([option.replace('-', '_').replace('__', '--', 1) if option.startswith('--') else option, *value])
