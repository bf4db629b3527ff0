"""Where runs happen, on this machine or on Slurm, and with how many processes each: decided after all overrides."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from dynamic_rcnn.errors import UserError, unknown_name
from dynamic_rcnn.run.spec import BENCHMARK, EVALUATE
from experiments.config.overrides import CONF, load
from experiments.config.schema import check_count, checked_task
from slurm import cli as queue
from slurm.site_profile import Profile

LOCAL, SLURM = "local", "slurm"
PROCESSES = "base.train.processes"
_PING_S = 5.0
_BY_CLUSTER = "cluster.processes with cluster=local, cluster.nodes and cluster.gpus_per_node with cluster=slurm"


def choose() -> tuple[str, str]:
    """(executor, why) for cluster=auto: Slurm where sbatch is on the PATH and Slurm answers, else this machine."""
    if not queue.available():
        return LOCAL, "sbatch is not on the PATH; runs take turns in slots of this machine"
    slurm_error = _no_answer()
    if slurm_error is not None:
        return LOCAL, f"sbatch is on the PATH, but Slurm does not answer ({slurm_error}); cluster=slurm insists on it"
    return SLURM, "sbatch is on the PATH, and Slurm answers; cluster=local is this machine"


def refuse_fields(executor: str, why: str, overrides: Sequence[str]) -> None:
    """Refuse settings of the other executor than the one that was chosen."""
    valid = [str(name) for name in _file(executor)]
    for item in overrides:
        group, _, field = item.split("=")[0].lstrip("+~").partition(".")
        if group == "cluster" and field and field.split(".")[0] not in valid:
            raise UserError(
                f"{item}: unknown setting {field.split('.')[0]!r} in cluster={executor}, which was chosen because "
                f"{why.split('; ')[0]}; valid: {', '.join(valid)}"
            )


def only(executor: str, cluster: DictConfig) -> DictConfig:
    """The settings of one executor out of auto's, which are those of both."""
    return OmegaConf.create(
        {name: cluster[name] for name in _file(executor)} | {"name": executor, "executor": executor}
    )


def settle_processes(config: DictConfig) -> list[str]:
    """Check `config.cluster`, and set base.train.processes by it. Returns lines on what was chosen."""
    train, cluster = config.base.train, config.cluster
    evaluates = checked_task(config.grid) == EVALUATE
    published = 1 if evaluates else train.get("processes", 1)
    check_count(PROCESSES, published, 1)
    if checked_task(config.grid) == BENCHMARK:
        return _settle_benchmark(cluster)
    if cluster.get("executor") == SLURM:
        processes = _on_slurm(cluster, published)
    elif cluster.get("executor") == LOCAL:
        processes = _on_this_machine(cluster)
    else:
        raise UserError(f"cluster.executor={cluster.get('executor')}: must be local or slurm")
    with open_dict(config):
        train.processes = processes
    if processes == published or evaluates:  # evaluating, any number gives the same
        return []
    line = f"processes={processes} a run, while base={config.choices.base} has {published}: other runs than with those"
    return [f"{line} (cluster.processes={published})" if cluster.executor == LOCAL else line]


def _settle_benchmark(cluster: DictConfig) -> list[str]:
    """One process times all arms, whatever number the base is published with; base.train is unchanged."""
    found = {SLURM: lambda: _on_slurm(cluster, 1), LOCAL: lambda: _on_this_machine(cluster)}
    if cluster.get("executor") not in found:
        raise UserError(f"cluster.executor={cluster.get('executor')}: must be local or slurm")
    processes = found[cluster.executor]()
    if processes != 1:
        raise UserError(
            f"cluster: {processes} processes for a grid that times its arms in one; leave out {_BY_CLUSTER}"
        )
    return []


def refuse_processes(overrides: Sequence[str]) -> None:
    """Refuse to set the processes past the cluster."""
    for item in overrides:
        if item.split("=")[0].lstrip("+~") == PROCESSES:
            raise UserError(f"{item}: is set by the cluster; give {_BY_CLUSTER}")


def _on_slurm(cluster: DictConfig, published: int) -> int:
    """Checks the profile, and fills in cluster.gpus_per_node."""
    settings: dict[str, Any] = OmegaConf.to_container(cluster, resolve=True)  # type: ignore[assignment]
    nodes = settings.get("nodes")
    if settings.get("gpus_per_node", 0) is None and isinstance(nodes, int) and nodes > 0:
        if published % nodes:
            raise UserError(
                f"cluster.nodes={nodes}: the base's {published} processes cannot be divided among them; "
                "give cluster.gpus_per_node"
            )
        cluster.gpus_per_node = settings["gpus_per_node"] = published // nodes
    return Profile.from_dict(settings).processes


def _on_this_machine(cluster: DictConfig) -> int:
    valid = list(_file(LOCAL))
    unknown = [str(name) for name in cluster if name not in valid]
    if unknown:
        raise unknown_name("setting", unknown, valid, "cluster")
    for name in ("processes", "slots", "threads"):
        if cluster.get(name) is not None:
            check_count(f"cluster.{name}", cluster[name], 1, ", or null")
    return int(cluster.get("processes") or 1)


def _no_answer() -> str | None:
    """Why Slurm's controller does not answer; None if it does."""
    try:
        done = subprocess.run(["scontrol", "ping"], capture_output=True, text=True, timeout=_PING_S, check=False)
    except subprocess.TimeoutExpired:
        return f"scontrol ping: nothing within {_PING_S:.0f} s"
    except OSError as error:
        return f"scontrol: {error.strerror}"
    if done.returncode == 0 and " UP" in done.stdout:
        return None
    words = [line for line in f"{done.stdout}\n{done.stderr}".splitlines() if re.search(r"\w", line)]
    return f"scontrol ping: {words[0].removeprefix('scontrol: ')}" if words else "scontrol ping failed"


def _file(executor: str) -> dict[str, Any]:
    return load(CONF / "cluster" / f"{executor}.yaml")
