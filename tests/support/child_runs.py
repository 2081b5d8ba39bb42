"""The training command in child processes, without the seconds that importing torch takes for each.

A parent process imports everything and computes nothing; every child is forked from it and goes on as
``python -m comfyui_cascade.training`` would. Run as a script, this file is that parent.
"""

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path

HERE = Path(__file__).resolve().parent


class Child:
    """A running command."""

    def __init__(self, pid, stdout, stderr):
        self.pid, self._stdout, self._stderr = pid, stdout, stderr

    def kill(self):
        """SIGKILL, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
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

    def start(self, arguments, stderr, largest_file=None, processes=1):
        """Start the command.

        Args:
            arguments: of the command line.
            stderr: file for what it says.
            largest_file: bytes beyond which writes fail, as on a full disk.
            processes: that work together, as ``accelerate launch --cpu`` starts them.
        """
        job = {
            "arguments": [str(argument) for argument in arguments],
            "stderr": str(stderr),
            "limit": largest_file,
            "environments": _environments(processes) if processes > 1 else [{}],
        }
        self._parent.stdin.write(json.dumps(job) + "\n")
        self._parent.stdin.flush()
        return Child(json.loads(self._parent.stdout.readline()), self._parent.stdout, stderr)

    def close(self):
        """End the parent."""
        self._parent.stdin.close()
        self._parent.wait(60)


def _environments(processes):
    """What tells each of several processes of the others."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true",
    }  # fmt: skip
    return [
        {name: str(value) for name, value in {**shared, "RANK": rank, "LOCAL_RANK": rank}.items()}
        for rank in range(processes)
    ]


def _become(job, environment, main_of_training):
    os.environ.update(environment)
    stderr = os.open(job["stderr"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(stderr, 2)
    os.dup2(stderr, 1)
    if job["limit"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["limit"], job["limit"]))
    sys.argv = ["training", *job["arguments"]]
    status = 1
    try:
        status = main_of_training()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _tell(number):
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def main():
    """Fork what each line on stdin says; print the first process id and, when all have ended, a status."""
    sys.path.insert(0, str(HERE.parent))
    import conftest  # noqa: F401 - makes comfyui_cascade importable
    import torch
    import torch.utils.tensorboard
    from comfyui_cascade.training import __main__, encoders  # noqa: F401

    torch.set_num_threads(1)
    for line in sys.stdin:
        job, pids = json.loads(line), []
        Path(job["stderr"]).unlink(missing_ok=True)
        for environment in job["environments"]:
            pids.append(os.fork())
            if pids[-1] == 0:
                _become(job, environment, __main__.main)
        _tell(pids[0])
        statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        _tell(next(filter(None, statuses), 0))


if __name__ == "__main__":
    main()
