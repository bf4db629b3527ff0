"""Starts training processes by forking one that has imported torch and mmdet, which takes seconds of CPU time each.

The forked processes behave as `python -m tests.dynamic_rcnn.disturbed RUN_DIR` would. Only runs with one thread per
process are forked: the number of OpenMP threads is fixed when torch is imported.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dynamic_rcnn.parallel import processes as spawn
from tests.dynamic_rcnn import disturbed

_FDS = 3  # stdout, stderr, and the pipe that gets the exit code


class ForkedProcess:
    """What tests use of subprocess.Popen."""

    def __init__(self, run_dir: Path, env: Mapping[str, str]) -> None:
        self.args = [str(run_dir)]
        self.returncode: int | None = None
        self._output = [tempfile.TemporaryFile("w+") for _ in range(2)]  # noqa: SIM115
        self._status, written = os.pipe()
        request = json.dumps({"run_dir": str(run_dir), "env": dict(env), "cwd": str(Path.cwd())}).encode()
        server = _server()
        socket.send_fds(server, [len(request).to_bytes(8, "big")], [*(file.fileno() for file in self._output), written])
        server.sendall(request)
        os.close(written)
        self.pid = int.from_bytes(server.recv(8, socket.MSG_WAITALL), "big")

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self._reap()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self._reap()
        assert self.returncode is not None
        return self.returncode

    def _reap(self) -> None:
        self.returncode = int.from_bytes(os.read(self._status, 8), "big", signed=True)
        os.close(self._status)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        texts = []
        for file in self._output:
            file.seek(0)
            texts.append(file.read())
        return texts[0], texts[1]


@cache
def _server() -> socket.socket:
    """The connection to the server of this process; the server ends when it is closed."""
    ours, its = socket.socketpair()
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "CUDA_VISIBLE_DEVICES": ""}
    env["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # as train.py sets it for runs of several processes
    command = [sys.executable, "-m", "tests.dynamic_rcnn.fork_server", str(its.fileno())]
    project = Path(__file__).resolve().parents[2]
    subprocess.Popen(command, env=env, cwd=project, pass_fds=[its.fileno()], start_new_session=True)
    its.close()
    return ours


def serve(connection: socket.socket) -> None:
    """Fork a process for each request, and write its exit code into the pipe that came with the request."""
    import torch  # noqa: F401

    from dynamic_rcnn.engine import evaluation_run, timing_run, trainer  # noqa: F401

    pipes: dict[int, int] = {}  # by process
    while True:
        if select.select([connection], [], [], 0.02)[0]:
            length, fds, _, _ = socket.recv_fds(connection, 8, _FDS)
            if not length:
                return
            request = json.loads(connection.recv(int.from_bytes(length, "big"), socket.MSG_WAITALL))
            process = _fork(lambda: _start_session(request, fds, [connection.fileno(), *pipes.values()]))  # noqa: B023
            pipes[process] = fds.pop()
            for descriptor in fds:
                os.close(descriptor)
            connection.sendall(process.to_bytes(8, "big"))
        for process in list(pipes):
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                pipe = pipes.pop(process)
                os.write(pipe, os.waitstatus_to_exitcode(status).to_bytes(8, "big", signed=True))
                os.close(pipe)


def _start_session(request: dict[str, Any], fds: Sequence[int], close: Sequence[int]) -> int:
    os.setsid()
    os.chdir(request["cwd"])
    for target, descriptor in enumerate([os.open(os.devnull, os.O_RDONLY), *fds[:2]]):
        os.dup2(descriptor, target)
        os.close(descriptor)
    for descriptor in (fds[2], *close):
        os.close(descriptor)
    spawn.subprocess = SimpleNamespace(Popen=_Rank)  # type: ignore[assignment]
    return _train(request["run_dir"], request["env"])


class _Rank:
    """What `parallel.processes` uses of subprocess.Popen, for one process of a run with several."""

    def __init__(self, args: Sequence[str], env: Mapping[str, str], pass_fds: Sequence[int]) -> None:
        self.returncode: int | None = None
        self.pid = _fork(lambda: _train(args[-1], env))

    def poll(self) -> int | None:
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            if ended:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _train(run_dir: str, env: Mapping[str, str]) -> int:
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["disturbed", run_dir]
    return disturbed.main()


def _fork(run: Callable[[], int]) -> int:
    """Run a function in a forked process, with the signal handlers of a new one. Returns the process."""
    handlers = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, handlers)
    process = os.fork()
    if process:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return process
    code = 1
    try:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        code = run()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
