"""Starting and stopping a test cluster, its nodes and its daemons."""

from __future__ import annotations

import fcntl
import json
import shutil
import socket
import string
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from dynamic_rcnn.errors import UserError
from tests.slurm.testcluster import namespaces
from tests.slurm.testcluster.config import CONTROLLER, DATABASE, MARIADB, PORTS, Layout, write_files
from tests.slurm.testcluster.namespaces import wait_for

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "srun", "munged", "unshare", "nsenter")
ACCOUNTING_PROGRAMS = ("slurmdbd", "sacct", "mariadbd", "mariadb-install-db")
LONGEST_FOLDER = 70  # characters: paths of sockets below it are longer by up to 38, and have at most 108
_IN_A_FOLDER = {*string.ascii_letters, *string.digits, *"/._-"}  # others have a meaning in some file of the cluster
_RECORD = "testcluster.json"
_FIRST_PORT, _LAST_PORT = 17000, 31900  # below the ports that the system gives out
_END = """kill -TERM "$0" 2> /dev/null
while [ -d "/proc/$0" ] && ! grep -q '^State:.Z' "/proc/$0/status"; do sleep 0.05; done"""


class Cluster:
    """The cluster in `layout.folder`, running or not. Methods raise ClusterError if an operation fails."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.folder = layout.folder
        self._daemon_env = {"SLURM_CONF": str(layout.daemon_conf)}

    @classmethod
    def load(cls, folder: Path) -> Cluster:
        """The cluster that runs in `folder`. Raises UserError if there is none."""
        try:
            record = json.loads((folder / _RECORD).read_text())
        except (OSError, ValueError):
            record = None
        if record is None or not is_running(folder):
            raise UserError(f"{folder}: no test cluster runs there; start one, or say where it is: folder=...")
        return cls(Layout(**{**record, "folder": folder}))

    @property
    def env(self) -> dict[str, str]:
        """The environment variables that its clients need."""
        return {"SLURM_CONF": str(self.layout.client_conf)}

    def node_on(self, number: int) -> None:
        """Boot a node and wait until its slurmd listens."""
        name = self.layout.node_names[number - 1]
        if namespaces.first_process(self.folder, name) is None:
            setup = 'slurmd -f "$SLURM_CONF" -N "$2" -c'
            namespaces.create(self.folder, name, setup, self._daemon_env, within=self._process(CONTROLLER))
        self._wait_for_port(number, name, f"slurmd.{name}.log")

    def node_off(self, number: int) -> None:
        """Switch a node off: slurmd and the processes of its jobs are killed."""
        process = namespaces.first_process(self.folder, self.layout.node_names[number - 1])
        if process is not None:
            namespaces.kill(process)

    def slurmd_stop(self, number: int) -> None:
        """Stop slurmd of a node; its jobs continue."""
        name = self.layout.node_names[number - 1]
        self._end_daemon(name, self.folder / f"run/slurmd.{name}.pid")

    def slurmd_start(self, number: int) -> None:
        """Start slurmd of a node, unless it runs, and wait until it listens."""
        name = self.layout.node_names[number - 1]
        if not _listens(self.layout.port + number):
            self._run_in(name, "slurmd", "-f", str(self.layout.daemon_conf), "-N", name)
        self._wait_for_port(number, name, f"slurmd.{name}.log")

    def controller_stop(self) -> None:
        """Stop slurmctld, which keeps its state on disk; the jobs continue."""
        self._end_daemon(CONTROLLER, self.folder / "run/slurmctld.pid")

    def controller_start(self, *flags: str) -> None:
        """Start slurmctld, unless it runs, and wait until it answers."""
        if not _listens(self.layout.port):
            self._run_in(CONTROLLER, "slurmctld", "-f", str(self.layout.daemon_conf), *flags)
        self._wait_for_port(0, "slurmctld", "slurmctld.log")  # it exits with 0 before it has checked its configuration
        self.client("scontrol", "ping")

    def client(self, *command: str) -> str:
        """Run one of Slurm's commands. Returns its standard output."""
        return namespaces.run(command, self.env)

    def _start(self) -> None:
        write_files(self.layout)
        setup = 'mount --bind "$1/etc/hosts" /etc/hosts && : > "$1/run/ready"'
        namespaces.create(self.folder, CONTROLLER, setup, {})
        wait_for((self.folder / "run/ready").exists, "no namespace", self.folder / f"log/{CONTROLLER}.log")
        self._start_munge()
        if self.layout.accounting:
            self._start_accounting()
        self.controller_start("-c", "-i")
        for number in range(1, self.layout.nodes + 1):
            self.node_on(number)
        idle = ("sinfo", "-h", "-N", "-p", "main", "-t", "idle", "-o", "%N")
        wait_for(lambda: len(self.client(*idle).split()) == self.layout.nodes, "some nodes are not idle", seconds=20)

    def _start_munge(self) -> None:
        paths = {"socket": "run/munge.socket", "key-file": "munge/key", "seed-file": "munge/seed"}
        paths |= {"pid-file": "run/munged.pid", "log-file": "log/munged.log"}
        options = [f"--{option}={self.folder / path}" for option, path in paths.items()]
        self._run_in(CONTROLLER, "munged", "--force", *options)
        wait_for((self.folder / "run/munge.socket").exists, "munged did not start", self.folder / "log/munged.log")

    def _start_accounting(self) -> None:
        data = ["--no-defaults", "--user=root", f"--datadir={self.folder}/mysql"]
        install = ["mariadb-install-db", *data, "--auth-root-authentication-method=normal", "--skip-test-db"]
        self._run_in(CONTROLLER, *install, seconds=60)
        server = ["mariadbd", *data, f"--socket={self.folder}/run/mysql.socket", "--bind-address=127.0.0.1"]
        server += [f"--port={self.layout.port + MARIADB}", f"--init-file={self.folder}/etc/users.sql"]
        server += ["--skip-name-resolve", "--skip-log-bin", "--performance-schema=off"]
        server += ["--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0", "--innodb-lock-wait-timeout=900"]
        detached = ["setsid", "--fork", "sh", "-c", 'log=$1; shift; exec "$@" > "$log" 2>&1', "sh"]
        self._run_in(CONTROLLER, *detached, f"{self.folder}/log/mariadbd.log", *server)
        self._wait_for_port(MARIADB, "mariadbd", "mariadbd.log")
        self._run_in(CONTROLLER, "slurmdbd")
        self._wait_for_port(DATABASE, "slurmdbd", "slurmdbd.log")

    def _process(self, name: str) -> int:
        process = namespaces.first_process(self.folder, name)
        if process is None:
            raise namespaces.ClusterError(f"{name} is off")
        return process

    def _run_in(self, name: str, *command: str, seconds: float = 10.0) -> str:
        return namespaces.run_in(self._process(name), command, self._daemon_env, seconds)

    def _end_daemon(self, name: str, pid_file: Path) -> None:
        """End the daemon whose id in the namespace `name` is in `pid_file`, and wait for it."""
        if pid_file.exists():
            self._run_in(name, "sh", "-c", _END, pid_file.read_text().strip())
            pid_file.unlink(missing_ok=True)

    def _wait_for_port(self, offset: int, name: str, log: str) -> None:
        port = self.layout.port + offset
        wait_for(lambda: _listens(port), f"{name} does not listen on port {port}", self.folder / "log" / log, 30.0)


def check_machine(accounting: bool = False) -> None:
    """Raises UserError, with the reason, if no cluster can run on this machine."""
    namespaces.check_root()
    more = ACCOUNTING_PROGRAMS if accounting else ()
    packages = "slurm-wlm munge slurmdbd mariadb-server" if accounting else "slurm-wlm munge"
    namespaces.check_machine([*PROGRAMS, *more], packages)


def is_running(folder: Path) -> bool:
    return namespaces.first_process(folder, CONTROLLER) is not None


def start(layout: Layout) -> Cluster:
    """Start a new cluster on free ports (`layout.port` is not used), and wait until all nodes are idle.

    If that fails, nothing is left behind.

    Raises UserError, ClusterError.
    """
    check_machine(layout.accounting)
    _check_path(str(layout.folder))
    with _one_start_at_a_time():
        _check_folder(layout.folder)
        cluster = Cluster(replace(layout, port=_free_ports(layout.nodes)))
        try:
            layout.folder.mkdir(parents=True, exist_ok=True)
            (layout.folder / _RECORD).write_text(json.dumps({**asdict(cluster.layout), "folder": str(layout.folder)}))
            cluster._start()
        except BaseException:
            stop(layout.folder)
            raise
    return cluster


def stop(folder: Path) -> bool:
    """Stop the cluster in `folder` with all its processes and remove the folder. Returns False if there was none.

    Also removes what a killed start left behind, but never a folder that `start` did not make.
    """
    process = namespaces.first_process(folder, CONTROLLER)
    if process is not None:
        namespaces.kill(process)
    namespaces.kill_rest(folder, Layout(folder).client_conf)
    if not (folder / _RECORD).is_file():
        return process is not None
    shutil.rmtree(folder)
    return True


def _check_path(folder: str) -> None:
    if len(folder) > LONGEST_FOLDER or not set(folder) <= _IN_A_FOLDER or not folder.startswith("/"):
        rule = f"must be absolute, of at most {LONGEST_FOLDER} characters: letters, digits, '/', '.', '_', '-'"
        raise UserError(f"folder {folder!r}: its path {rule}; choose another folder=")


def _check_folder(folder: Path) -> None:
    if is_running(folder):
        raise UserError(f"{folder}: a test cluster runs there; stop it first, or choose another folder=")
    stop(folder)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(f"{folder}: exists and is not empty; stop would remove it: choose another folder=")


def _free_ports(nodes: int) -> int:
    """The first of a range of free ports for a cluster of `nodes` nodes."""
    for port in range(_FIRST_PORT, _LAST_PORT, PORTS):
        if all(_free(port + offset) for offset in (*range(nodes + 1), DATABASE, MARIADB)):
            return port
    raise namespaces.ClusterError(f"no free ports between {_FIRST_PORT} and {_LAST_PORT}")


def _free(port: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("", port))
        except OSError:
            return False
    return True


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def _one_start_at_a_time() -> Iterator[None]:
    """Prevent two clusters from choosing the same ports. Locks this source file, so no lock file is left behind."""
    with Path(__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
