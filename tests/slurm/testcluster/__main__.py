"""A real, private Slurm on this machine, for tests: several virtual nodes on loopback, with fake GPUs.

    python -m tests.slurm.testcluster start [nodes=4] [cpus=16] [gpus=8] [accounting=false] [folder=...]
    python -m tests.slurm.testcluster stop                 stop it with all its jobs and remove its files
    python -m tests.slurm.testcluster status               its nodes and jobs; exit code 1 if no cluster runs
    eval "$(python -m tests.slurm.testcluster env)"        sbatch, squeue and others in this shell then use it
    python -m tests.slurm.testcluster node-off N           switch node N off: slurmd and all processes of its jobs end
    python -m tests.slurm.testcluster node-on N
    python -m tests.slurm.testcluster slurmd-stop N        stop slurmd of node N; its jobs continue
    python -m tests.slurm.testcluster slurmd-start N
    python -m tests.slurm.testcluster controller-stop      stop slurmctld; the jobs continue
    python -m tests.slurm.testcluster controller-start

cpus, gpus   per node
accounting   true: start slurmdbd and MariaDB too, for sacct
folder       where its files are; default: slurm-test in the temporary folder. Each folder can contain one cluster

It needs root on Linux and Debian's packages slurm-wlm and munge, for accounting slurmdbd and mariadb-server too. Its
daemons listen on loopback only. Exit codes: 0 done, 1 failed, 2 bad input.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from dynamic_rcnn.errors import UserError, unknown_name
from tests.slurm.testcluster.cluster import Cluster, is_running, start, stop
from tests.slurm.testcluster.config import MOST_NODES, Layout
from tests.slurm.testcluster.namespaces import ClusterError, check_root

_LEAST = {"nodes": 1, "cpus": 1, "gpus": 0, "max_array_size": 2}
_MOST = {"nodes": MOST_NODES, "cpus": 1024, "gpus": 64, "max_array_size": 4_000_001}
_ON_A_NODE: dict[str, Callable[[Cluster, int], None]] = {
    "node-off": Cluster.node_off,
    "node-on": Cluster.node_on,
    "slurmd-stop": Cluster.slurmd_stop,
    "slurmd-start": Cluster.slurmd_start,
}
_ON_THE_CLUSTER: dict[str, Callable[[Cluster], None]] = {
    "status": lambda cluster: print(cluster.client("sinfo", "-N", "-l", "-p", "main"), cluster.client("squeue")),
    "env": lambda cluster: print(*(f"export {name}={value}" for name, value in cluster.env.items()), sep="\n"),
    "controller-stop": Cluster.controller_stop,
    "controller-start": Cluster.controller_start,
}
_ACTIONS = ("start", "stop", *_ON_THE_CLUSTER, *_ON_A_NODE)


def main(arguments: Sequence[str]) -> int:
    """Run the action that the first argument names. Returns the exit code."""
    if not arguments or "--help" in arguments or "-h" in arguments:
        print((__doc__ or "").strip())
        return 0 if arguments else 2
    try:
        return _act(arguments[0], arguments[1:])
    except UserError as error:
        print(f"testcluster: {error}", file=sys.stderr)
        return 2
    except (ClusterError, OSError) as error:
        print(f"testcluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _act(action: str, rest: Sequence[str]) -> int:
    if action not in _ACTIONS:
        raise unknown_name("action", [action], _ACTIONS)
    words = [item for item in rest if "=" not in item]
    if len(words) != (action in _ON_A_NODE):
        takes = "the number of one node" if action in _ON_A_NODE else "only settings of the form name=value"
        raise UserError(f"{action} takes {takes}, not {' '.join(words) or 'nothing'!r}")
    layout = _layout(action, dict(item.split("=", 1) for item in rest if "=" in item))
    check_root()
    if action == "start":
        _start(layout)
    elif action == "stop":
        print(f"{layout.folder}: {'stopped and removed' if stop(layout.folder) else 'no test cluster there'}")
    elif action == "status" and not is_running(layout.folder):
        print(f"{layout.folder}: no test cluster runs there")
        return 1
    elif action in _ON_A_NODE:
        cluster = Cluster.load(layout.folder)
        _ON_A_NODE[action](cluster, _number("node", words[0], 1, cluster.layout.nodes))
    else:
        _ON_THE_CLUSTER[action](Cluster.load(layout.folder))
    return 0


def _start(layout: Layout) -> None:
    cluster = start(layout)
    print(f"{layout.folder}: {layout.nodes} nodes, {layout.cpus} CPUs and {layout.gpus} GPUs each. To use it:")
    _ON_THE_CLUSTER["env"](cluster)


def _layout(action: str, settings: dict[str, str]) -> Layout:
    """Read the settings. Raises UserError for an unknown one or a bad value."""
    valid = {"folder", "accounting", *_LEAST} if action == "start" else {"folder"}
    if settings.keys() - valid:
        raise unknown_name("setting", sorted(settings.keys() - valid), valid, where=action)
    folder = Path(settings.get("folder", f"{tempfile.gettempdir()}/slurm-test")).resolve()
    accounting = settings.get("accounting", "false")
    if accounting not in ("true", "false"):
        raise UserError(f"accounting {accounting!r}: must be true or false")
    given = [name for name in _LEAST if name in settings]
    numbers = {name: _number(name, settings[name], _LEAST[name], _MOST[name]) for name in given}
    return Layout(folder, accounting=accounting == "true", **numbers)


def _number(name: str, text: str, least: int, most: int) -> int:
    if not text.isdecimal() or not least <= int(text) <= most:
        raise UserError(f"{name} {text!r}: must be a whole number from {least} to {most}")
    return int(text)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)  # a start that is stopped leaves nothing behind
    sys.exit(main(sys.argv[1:]))
