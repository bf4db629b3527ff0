"""The configuration files of a private test cluster."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

CONTROLLER = "controller"  # the host name of slurmctld
DATABASE = 80  # the ports of slurmdbd and of MariaDB, above the first one
MARIADB = 81
PORTS = 100  # a cluster has the ports from its first one on
MOST_NODES = DATABASE - 1

# Nodes share the machine's cores, memory, network and files. Requeued jobs start 6 s (cred_expire + 1) after their end.
# KillWait, SlurmdTimeout: as short as Slurm allows, since tests wait for them. A lost node is NODE_FAIL after 16 s.
_SLURM = """\
ClusterName=test
SlurmctldHost={controller}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/run/munge.socket,cred_expire=5
{communication}
FirstJobId={first_job}
MaxArraySize={max_array_size}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
SlurmctldDebug=verbose
SlurmdDebug=verbose
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
MpiDefault=none
MailProg=/bin/true
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=100
EnforcePartLimits=ALL
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
JobRequeue=1
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=5
MessageTimeout=5
TCPTimeout=2
InactiveLimit=0
KillWait=10
WaitTime=0
MinJobAge=300
CompleteWait=0
BatchStartTimeout=10
UnkillableStepTimeout=10
GresTypes=gpu
SlurmdParameters=config_overrides
{accounting}
NodeName={nodes} NodeHostname={nodes} NodeAddr=127.0.0.1 Port=[{first_node_port}-{last_node_port}] \
CPUs={cpus} RealMemory=16000{gres} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE DefaultTime=10 State=UP PriorityTier=1 \
PreemptMode=REQUEUE GraceTime=20
PartitionName=high Nodes=ALL MaxTime=INFINITE DefaultTime=10 State=UP PriorityTier=10 PreemptMode=OFF
"""

# AccountingStoragePass is how the clients of slurmdbd find a munge socket that is not in the default folder.
_ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={port}
AccountingStoragePass={folder}/run/munge.socket
AccountingStorageTRES=gres/gpu"""

_DATABASE = """\
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.socket
DbdHost={controller}
DbdAddr=127.0.0.1
DbdPort={port}
SlurmUser=root
LogFile={folder}/log/slurmdbd.log
PidFile={folder}/run/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={mariadb_port}
StorageLoc=slurm_acct_db
StorageUser=slurm
StoragePass=slurm
CommunicationParameters=NoInAddrAny
"""

# MariaDB reads one statement per line.
_USERS = """\
CREATE USER slurm@'127.0.0.1' IDENTIFIED BY 'slurm';
GRANT ALL ON slurm_acct_db.* TO slurm@'127.0.0.1';
"""


@dataclass(frozen=True)
class Layout:
    """A cluster: its folder, its nodes (each with `cpus` and `gpus`), and the first of its PORTS ports."""

    folder: Path
    nodes: int = 4
    cpus: int = 16
    gpus: int = 8
    accounting: bool = False
    max_array_size: int = 1001
    port: int = 17000

    @property
    def node_names(self) -> list[str]:
        return [f"node{number}" for number in range(1, self.nodes + 1)]

    @property
    def client_conf(self) -> Path:
        """SLURM_CONF of the cluster's users."""
        return self.folder / "etc/slurm.conf"

    @property
    def daemon_conf(self) -> Path:
        """SLURM_CONF of the cluster's own processes, and thus of the jobs."""
        return self.folder / "etc/daemon.conf"


def write_files(layout: Layout) -> None:
    """Write the files of a cluster that has not started."""
    folder = layout.folder
    for name in ("etc", "run", "log", "state", "spool", "dev", "munge"):
        (folder / name).mkdir(parents=True)
    (folder / "munge").chmod(0o700)
    _write_secret(folder / "munge/key", os.urandom(128))
    # daemons and jobs listen on loopback alone, whose address they get by their own host names, which resolve to it
    layout.daemon_conf.write_text(_slurm_conf(layout, "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny"))
    # the machine's host name may resolve to another address, or not at all: srun outside of jobs listens on all
    layout.client_conf.write_text(_slurm_conf(layout, ""))
    # Slurm sets CUDA_VISIBLE_DEVICES if each GPU is a character device with a path of its own
    for number in range(layout.gpus):
        (folder / f"dev/fakegpu{number}").symlink_to("/dev/null")
    devices = f"Name=gpu Type=fake File={folder}/dev/fakegpu[0-{layout.gpus - 1}]\n" if layout.gpus else ""
    (folder / "etc/gres.conf").write_text(f"AutoDetect=off\n{devices}")
    (folder / "etc/hosts").write_text("127.0.0.1 " + " ".join(["localhost", CONTROLLER, *layout.node_names]) + "\n")
    if layout.accounting:
        database = {"port": layout.port + DATABASE, "mariadb_port": layout.port + MARIADB, "controller": CONTROLLER}
        _write_secret(folder / "etc/slurmdbd.conf", _DATABASE.format(folder=folder, **database).encode())
        (folder / "etc/users.sql").write_text(_USERS)


def _slurm_conf(layout: Layout, communication: str) -> str:
    accounting = "AccountingStorageType=accounting_storage/none"
    if layout.accounting:
        accounting = _ACCOUNTING.format(folder=layout.folder, port=layout.port + DATABASE)
    return _SLURM.format(
        folder=layout.folder,
        controller=CONTROLLER,
        port=layout.port,
        communication=communication,
        # ids that no earlier cluster had: whatever is kept by job id, outside of the cluster, stays right
        first_job=int(time.time()) % 6_000_000 * 10 + 1,
        max_array_size=layout.max_array_size,
        accounting=accounting,
        nodes=f"node[1-{layout.nodes}]",
        first_node_port=layout.port + 1,
        last_node_port=layout.port + layout.nodes,
        cpus=layout.cpus,
        gres=f" Gres=gpu:fake:{layout.gpus}" if layout.gpus else "",
    )


def _write_secret(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
