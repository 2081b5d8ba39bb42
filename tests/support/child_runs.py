"""The training command in child processes, without the seconds that importing torch takes for each.

A parent process imports everything and computes nothing; every child is forked from it and goes on as
``python -m comfyui_cascade.training`` would. Run as a script, this file is that parent.
"""

import json
import os
import resource
import runpy
import signal
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


class Child:
    """A running command."""

    def __init__(self, pid, stdout, stderr):
        self.pid, self._stdout, self._stderr = pid, stdout, stderr

    def kill(self):
        """SIGKILL, if it still runs."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self):
        """Its exit status, negative after a signal, and what it said on stderr."""
        return json.loads(self._stdout.readline()), self._stderr.read_text()


class Children:
    """The parent process, from outside."""

    def __init__(self):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._parent = subprocess.Popen(
            [sys.executable, "-P", __file__],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def start(self, arguments, stderr, largest_file=None):
        """Start the command.

        Args:
            arguments: of the command line.
            stderr: file for what it says.
            largest_file: bytes beyond which writes fail, as on a full disk.
        """
        job = {"arguments": [str(a) for a in arguments], "stderr": str(stderr), "limit": largest_file}
        self._parent.stdin.write(json.dumps(job) + "\n")
        self._parent.stdin.flush()
        return Child(json.loads(self._parent.stdout.readline()), self._parent.stdout, stderr)

    def close(self):
        """End the parent."""
        self._parent.stdin.close()
        self._parent.wait(10)


def _become(job):
    stderr = os.open(job["stderr"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(stderr, 2)
    os.dup2(stderr, 1)
    if job["limit"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["limit"], job["limit"]))
    sys.argv = ["training", *job["arguments"]]
    status = 1
    try:
        runpy.run_module("comfyui_cascade.training", run_name="__main__", alter_sys=False)
    except SystemExit as end:
        status = end.code
    finally:
        sys.stderr.flush()
        os._exit(status)


def _tell(number):
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def main():
    """Fork a child for each line on stdin; print its process id and, when it has ended, its status."""
    sys.path.insert(0, str(HERE.parent))
    import conftest  # noqa: F401 - makes comfyui_cascade importable
    import torch
    import torch.utils.tensorboard
    from comfyui_cascade.training import __main__, encoders  # noqa: F401

    torch.set_num_threads(1)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _become(json.loads(line))
        _tell(pid)
        _tell(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


if __name__ == "__main__":
    main()
