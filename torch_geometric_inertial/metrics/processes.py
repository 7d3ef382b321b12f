r"""Functions in processes of their own, which may be slow, hang or crash without harm to the others.

A process loads the function's module alone, not the package and torch, so that it starts in a fraction of a second and
can be ended and started anew at any time. For that its module must import nothing of the package that imports torch.
"""
from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

#: Seconds that a process may take to start.
START_LIMIT = 300.0
#: Calls of a quick function that go to a process at a time.
AT_ONCE = 100


class Failure(NamedTuple):
    r"""Why there is no result: ``status`` is ``'timeout'``, or ``'perception_failed'`` after an error or a crash."""
    status: str
    message: str


def run(function: str, calls: Sequence[tuple], workers: int = 1, seconds: float = 60.0) -> list[Any]:
    r"""Calls a function in processes of their own.

    Args:
        function: ``'package.module:name'``.
        calls: Arguments of each call.
        workers: How many processes.
        seconds: Time limit of a call.

    Returns:
        What each call returned, or its :class:`Failure`.

    Raises:
        ImportError: If the function's module cannot be imported.
    """
    results: list[Any] = [None] * len(calls)
    if not calls:
        return results
    numbers = iter(range(len(calls)))
    lock, errors = threading.Lock(), []

    def work() -> None:
        try:
            _serve_calls(function, calls, seconds, _shared(numbers, lock), results)
        except Exception as error:  # told to the caller below
            errors.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(workers, len(calls)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def run_anywhere(function: Callable, calls: Sequence[tuple], workers: int | None, seconds: float = 60.0) -> list[Any]:
    r"""Calls a quick function here, or by :func:`run` if there are several workers, some calls at a time."""
    if workers is None or workers < 2:
        return [function(*call) for call in calls]
    where = f'{function.__module__}:{function.__name__}'
    parts = [(where, calls[i:i + AT_ONCE]) for i in range(0, len(calls), AT_ONCE)]
    results: list[Any] = []
    for (_, some), found in zip(parts, run(f'{__name__}:call_all', parts, workers, AT_ONCE * seconds), strict=True):
        results += run(where, some, 1, seconds) if isinstance(found, Failure) else found
    return results


def call_all(function: str, calls: Sequence[tuple]) -> list[Any]:
    r"""What a function of :func:`run` returns for many calls."""
    module, _, name = function.partition(':')
    call = getattr(importlib.import_module(module), name)
    return [call(*arguments) for arguments in calls]


def _shared(numbers: Iterator[int], lock: threading.Lock) -> Iterator[int]:
    while True:
        with lock:
            number = next(numbers, None)
        if number is None:
            return
        yield number


def _serve_calls(function: str, calls: Sequence[tuple], seconds: float, numbers: Iterator[int],
                 results: list[Any]) -> None:
    process = None
    try:
        for i in numbers:
            process = process or _start(function)
            answer = _ask(process, calls[i], seconds)
            results[i] = answer
            if isinstance(answer, Failure) and process.poll() is not None:
                process = None
    finally:
        if process is not None:
            process.kill()
            process.wait()


def _start(function: str) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, str(Path(__file__)), function], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    answer = _read(process, START_LIMIT)
    if isinstance(answer, Failure):
        raise ImportError(f'{function} cannot be run in a process of its own: {answer.message}')
    return process


def _ask(process: subprocess.Popen, call: tuple, seconds: float) -> Any:
    assert process.stdin is not None
    try:
        pickle.dump(call, process.stdin)
        process.stdin.flush()
    except OSError:
        return _ended(process, 'perception_failed', 'its process has ended')
    return _read(process, seconds)


def _read(process: subprocess.Popen, seconds: float) -> Any:
    late = threading.Event()

    def stop() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(seconds, stop)
    timer.start()
    assert process.stdout is not None
    try:
        good, answer = pickle.load(process.stdout)
        return answer if good else Failure('perception_failed', answer)
    except (EOFError, pickle.UnpicklingError):
        if late.is_set():
            return _ended(process, 'timeout', f'took more than {seconds:g} s')
        return _ended(process, 'perception_failed', 'its process crashed')
    finally:
        timer.cancel()


def _ended(process: subprocess.Popen, status: str, message: str) -> Failure:
    process.kill()
    process.wait()
    return Failure(status, message)


def _main(function: str) -> None:
    r"""What the process runs: reads calls, writes what they return."""
    answers = sys.stdout.buffer
    sys.stdout = sys.stderr  # nothing that a library prints may get among the answers
    module, _, name = function.partition(':')
    _skip_inits(module)
    try:
        call = getattr(importlib.import_module(module), name)
    except Exception as error:
        _answer(answers, False, error)
        return
    _answer(answers, True, 'ready')
    while True:
        try:
            arguments = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            _answer(answers, True, call(*arguments))
        except Exception as error:
            _answer(answers, False, error)


def _answer(answers: BinaryIO, good: bool, content: Any) -> None:
    answers.write(pickle.dumps((good, content if good else f'{type(content).__name__}: {content}')))
    answers.flush()


def _skip_inits(module: str) -> None:
    r"""Lets a module of this package be imported without the package's own ``__init__``, which imports torch."""
    root = Path(__file__).resolve().parents[1]
    for folder in (root, root / 'chem', root / 'metrics') if module.startswith(f'{root.name}.') else ():
        package = types.ModuleType('.'.join(folder.relative_to(root.parent).parts))
        package.__path__ = [str(folder)]
        sys.modules[package.__name__] = package


if __name__ == '__main__':
    sys.path.pop(0)  # this folder, whose modules are not meant to be imported by their bare names
    _main(sys.argv[1])
