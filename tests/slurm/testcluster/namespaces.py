"""The namespaces of a test cluster: each has its own host name and its own processes, which end with its first one.

The cluster is a namespace, and each of its nodes is one within it. The first process of each only waits. It is
recognised by its arguments, so there is no record of process ids that could be out of date.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from dynamic_rcnn.errors import UserError

_MARK = "slurm-testcluster"
_UNSHARE = ["unshare", "--uts", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child=KILL"]
_UNSHARE += ["--mount-proc", "--"]
_FIRST = 'hostname "$2" && {setup} || exit 1; while :; do sleep 1; done'
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"
_CLIENTS = ("srun", "sbatch", "salloc", "sattach", "squeue", "sinfo", "scancel", "scontrol", "sacct")
_PATIENCE_S = 10.0


class ClusterError(RuntimeError):
    """An operation on the cluster failed. The message is one line."""


def check_root() -> None:
    """Raises UserError unless this is root on Linux."""
    if not sys.platform.startswith("linux"):
        raise UserError(f"a test cluster needs Linux; this is {sys.platform}")
    if os.geteuid() != 0:
        raise UserError(f"a test cluster needs root, for its namespaces and slurmd; this is user {os.geteuid()}")


def check_machine(programs: Sequence[str], packages: str) -> None:
    """Raises UserError if programs are missing or namespaces cannot be made."""
    missing = [name for name in programs if shutil.which(name, path=_PATH) is None]
    if missing:
        raise UserError(f"{', '.join(missing)}: not found; Debian has them: apt-get install {packages}")
    tried = subprocess.run([*_UNSHARE, "true"], capture_output=True, text=True, env=_environment({}))
    if tried.returncode != 0:
        raise UserError(f"no namespaces here ({last_line(tried.stderr)}); in a container: docker run --privileged")


def create(folder: Path, name: str, setup: str, env: Mapping[str, str], within: int | None = None) -> None:
    """Create the namespace `name` (also its host name) of a cluster, inside the one that starts with process `within`.

    It runs the shell command `setup` ($1: folder, $2: name), and ends if that fails. Its output goes to log/<name>.log.
    """
    first = ["sh", "-c", _FIRST.format(setup=setup), _MARK, str(folder), name]
    # setsid ends at once: whoever starts a cluster gets no child of it
    command = [*([] if within is None else _enter(within)), "setsid", "--fork", *_UNSHARE, *first]
    with (folder / "log" / f"{name}.log").open("ab") as log:
        subprocess.run(
            command, env=_environment(env), check=True, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )


def first_process(folder: Path, name: str) -> int | None:
    """The id of the first process of the namespace `name`, as seen from outside; None if there is no such namespace."""
    marks = [_MARK, str(folder), name]
    return next((process for process, words in _processes() if words[0] == "sh" and words[3:6] == marks), None)


def run_in(process: int, command: Sequence[str], env: Mapping[str, str], seconds: float = _PATIENCE_S) -> str:
    """Run `command` in the namespace that starts with `process`. Returns its standard output; raises ClusterError."""
    return run([*_enter(process), *command], env, seconds, name=command[0])


def run(command: Sequence[str], env: Mapping[str, str], seconds: float = _PATIENCE_S, name: str = "") -> str:
    """Run `command`. Returns its standard output; raises ClusterError if it fails or takes too long."""
    name = name or command[0]
    try:
        done = subprocess.run(
            command, env=_environment(env), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        raise ClusterError(f"{name} did not end within {seconds:.0f} s") from None
    if done.returncode != 0:
        raise ClusterError(f"{name}: exit code {done.returncode}: {last_line(done.stderr or done.stdout)}")
    return done.stdout


def kill(process: int) -> None:
    """End the namespace that starts with `process`, and wait until all its processes have ended."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
    wait_for(lambda: not _alive(process), f"process {process} does not end")


def kill_rest(folder: Path, client_conf: Path) -> None:
    """End what is left outside of a dead cluster: clients such as srun, which would wait for it."""
    variable = f"SLURM_CONF={client_conf}".encode()
    for process, words in _processes():
        with suppress(OSError):
            if Path(words[0]).name in _CLIENTS and variable in _read(process, "environ").split(b"\0"):
                os.kill(process, signal.SIGKILL)
    wait_for(lambda: not _kill_makers(folder), f"{folder} does not end")


def _kill_makers(folder: Path) -> bool:
    """Whether there were processes that make a namespace, or wait for its end; a killed start leaves such."""
    found = [process for process, words in _processes() if _MARK in words and str(folder) in words]
    for process in found:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return bool(found)


def wait_for(
    condition: Callable[[], object], failure: str, log: Path | None = None, seconds: float = _PATIENCE_S
) -> None:
    """Raises ClusterError with `failure` and the last line of `log` if `condition` is not true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            said = f": {last_line(log.read_text(errors='replace'))}" if log is not None and log.exists() else ""
            raise ClusterError(f"{failure} within {seconds:.0f} s{said}")
        time.sleep(0.05)


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no output"])[-1]


def _processes() -> Iterator[tuple[int, list[str]]]:
    """The id and arguments of every process of the machine that has not ended."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = _read(int(path.name), "cmdline").decode(errors="replace").split("\0")
        except OSError:  # it has just ended
            continue
        yield int(path.name), words


def _read(process: int, name: str) -> bytes:
    return Path(f"/proc/{process}/{name}").read_bytes()


def _alive(process: int) -> bool:
    """Whether a process is alive. A zombie is not."""
    try:
        return _read(process, "stat").rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def _enter(process: int) -> list[str]:
    return ["nsenter", "--target", str(process), "--uts", "--mount", "--pid", "--"]


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment, without the variables of a Slurm job that it may be in."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH_", "SRUN_"))}
    return {**kept, "PATH": _PATH, "LC_ALL": "C", **extra}
