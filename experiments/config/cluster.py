"""Where runs happen, on this machine or on Slurm, and with how many processes each."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dynamic_rcnn.errors import UserError
from dynamic_rcnn.run.spec import BENCHMARK, EVALUATE
from dynamic_rcnn.wording import plural
from experiments.config.arguments import BY_CLUSTER
from experiments.config.conf_files import load
from experiments.config.schema import LOCAL, SLURM, LocalCluster, Settings

if TYPE_CHECKING:  # a local launch imports nothing from slurm
    from slurm.site_profile import Profile

_PING_S = 5.0


def choose_executor() -> tuple[str, str]:
    """(executor, why) for cluster=auto: Slurm if sbatch is on the PATH and Slurm answers, else this machine."""
    if shutil.which("sbatch") is None:
        return LOCAL, "sbatch is not on the PATH; runs take turns in slots of this machine"
    slurm_error = _ping_error()
    if slurm_error is not None:
        return LOCAL, f"sbatch is on the PATH, but Slurm does not answer ({slurm_error}); cluster=slurm requires it"
    return SLURM, "sbatch is on the PATH, and Slurm answers; cluster=local uses this machine"


def refuse_fields(executor: str, why: str, arguments: Sequence[str]) -> None:
    """Refuse settings of the executor that cluster=auto did not choose."""
    valid = [str(name) for name in load(f"cluster/{executor}")]
    for item in arguments:
        group, _, field = item.split("=")[0].lstrip("+~").partition(".")
        if group == "cluster" and field and field.split(".")[0] not in valid:
            raise UserError(
                f"{item}: unknown setting {field.split('.')[0]!r} in cluster={executor}, which was chosen because "
                f"{why.split('; ')[0]}; valid: {', '.join(valid)}"
            )


def resolve_cluster(settings: Settings, base: str) -> tuple[LocalCluster | Profile, str | None]:
    """The slots of this machine, or what a job asks Slurm for.

    Also returns a line if another number of processes than the base is published with share the groups of a run.
    """
    trains = settings.task not in (EVALUATE, BENCHMARK)
    published = settings.base["train"]["processes"] if trains else 1
    cluster: Any = settings.cluster
    if not isinstance(cluster, LocalCluster):
        cluster = _slurm_profile(cluster, published)
    processes = cluster.processes or 1
    if settings.task == BENCHMARK and processes != 1:
        rule = "processes for a grid that times its arms in one process; remove this setting"
        raise UserError(f"cluster: {processes} {rule} {BY_CLUSTER}")
    if processes == published or not trains:
        return cluster, None
    groups = settings.base["train"]["groups"]
    each = groups // processes if groups % processes == 0 else f"{groups}/{processes}"
    share = f"cluster.processes={processes}: each process trains {each} of the {groups} groups"
    return cluster, f"{share} (base {base}: {plural('process', published)})"


def _slurm_profile(content: dict[str, Any], published: int) -> Profile:
    """The profile, with gpus_per_node=null filled in from the processes that the base is published with."""
    from slurm.site_profile import Profile

    nodes = content.get("nodes")
    if content.get("gpus_per_node", 0) is None and isinstance(nodes, int) and nodes > 0:
        if published % nodes:
            raise UserError(
                f"cluster.nodes={nodes}: the base's {published} processes cannot be divided among them; "
                "give cluster.gpus_per_node"
            )
        content = {**content, "gpus_per_node": published // nodes}
    return Profile.from_dict(content)


def _ping_error() -> str | None:
    """Why Slurm's controller does not answer; None if it does."""
    try:
        done = subprocess.run(["scontrol", "ping"], capture_output=True, text=True, timeout=_PING_S, check=False)
    except subprocess.TimeoutExpired:
        return f"scontrol ping: no answer within {_PING_S:.0f} s"
    except OSError as error:
        return f"scontrol: {error.strerror}"
    if done.returncode == 0 and " UP" in done.stdout:
        return None
    words = [line for line in f"{done.stdout}\n{done.stderr}".splitlines() if re.search(r"\w", line)]
    return f"scontrol ping: {words[0].removeprefix('scontrol: ')}" if words else "scontrol ping failed"
