"""Processes that die, disks that are full, and folders that cannot be written to."""
import contextlib
import os
import resource
import signal
import sys
import traceback

WRITES = ('open', 'os.rename', 'os.remove', 'os.mkdir', 'os.chmod', 'os.rmdir', 'os.truncate')
NOBODY = 65534


def start(function) -> int:
    """Calls a function in a process of its own, and returns its number; the process ends with 0, or 1 on an error."""
    number = os.fork()
    if number == 0:
        try:
            function()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return number


def finish(number: int) -> int:
    """The exit status; negative is a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def killed_at(step: int, folder, function) -> bool:
    """Calls a function in a process that is killed before the system call of this number that changes a file in the
    folder; whether it was killed, since the function may be done before."""
    def run():
        left = [step]

        def hook(event, args):
            if event in WRITES and str(args[0]).startswith(str(folder)):
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        function()
    status = finish(start(run))
    assert status in (0, -signal.SIGKILL)
    return status != 0


@contextlib.contextmanager
def full_disk(size: int):
    """No file can grow beyond so many bytes, which is what a full disk does to a writer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def as_somebody_else(function) -> int:
    """Calls a function as a user who may read and not write, where the tests run as root; the exit status."""
    def run():
        if os.geteuid() == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        function()
    return finish(start(run))
