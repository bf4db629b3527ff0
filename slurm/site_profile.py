"""What a job requests from Slurm: a site's cluster profile, and its parameters for submitit's SlurmExecutor."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, model_validator

from dynamic_rcnn.run.schema import BrokenRulesError, Schema, validate
from dynamic_rcnn.run.values import Count, CountFromZero, Positive
from slurm import sbatch_flags

_MOST_MINUTES = 14 * 1440
_LEAST_RUN_S = 60  # of a time limit, before the warning
_MEMORY = re.compile(r"0|[1-9]\d*[KMGT]B?", re.IGNORECASE | re.ASCII)
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<parts>\d+(?::\d{1,2}){0,2})", re.ASCII)


def parse_minutes(value: Any) -> int:
    """Read a time limit in minutes: a number, or text in one of sbatch's forms. Seconds are rounded up.

    Raises ValueError for anything else, and for 0, which Slurm reads as no limit.
    """
    if isinstance(value, int) and value > _MOST_MINUTES:  # YAML reads 12:00:00 without quotes as 43200
        raise ValueError('more than 14 days as a number of minutes; write "12:00:00" in quotes')
    total = value if isinstance(value, int) and not isinstance(value, bool) else _minutes_of(str(value))
    if total < 1:
        raise ValueError(
            'must be minutes, an integer of at least 1, or text such as "1-00:00:00" (a day) or "12:00:00", in quotes'
        )
    return total


def _minutes_of(text: str) -> int:
    """Minutes of M, M:S, H:M:S, D-H, D-H:M or D-H:M:S; 0 for anything else."""
    match = _TIME.fullmatch(text)
    if match is None:
        return 0
    parts = [int(part) for part in match["parts"].split(":")]
    if match["days"] is not None or len(parts) == 3:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
    else:
        hours, minutes, seconds = 0, *(*parts, 0)[:2]
    return -(-(int(match["days"] or 0) * 86400 + hours * 3600 + minutes * 60 + seconds) // 60)


def _check_text(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # an account may be a number
    if value is not None and (not isinstance(value, str) or not value.strip() or "\n" in value):
        raise ValueError("must be text on one line, or null")
    return value


def _check_memory(value: Any) -> Any:
    if value is not None and _MEMORY.fullmatch(str(value)) is None:
        raise ValueError("must be a node's memory with a unit (K, M, G, T), e.g. 64G, 0 for all of it, or null")
    return value


def _check_line(value: str) -> str:
    if "\n" in value:
        raise ValueError("must be one line")
    return value


Text = Annotated[str | None, BeforeValidator(_check_text)]
Line = Annotated[str, AfterValidator(_check_line)]


class Retries(Schema):
    """How often a run is retried in the same job, by retry budget; see `slurm.end_causes.BUDGETS`."""

    time_out: CountFromZero
    preempted: CountFromZero
    requeued: CountFromZero
    node_failure: CountFromZero
    preflight: CountFromZero
    out_of_memory: CountFromZero
    stalled: CountFromZero
    killed: CountFromZero
    error: CountFromZero
    nan: CountFromZero


class Profile(Schema):
    """The fields of conf/cluster/slurm.yaml, which explains them. time: minutes. mem: of a node, with a unit."""

    name: str
    executor: str
    account: Text
    partition: Text
    qos: Text
    constraint: Text
    nodes: Count
    gpus_per_node: CountFromZero
    cpus_per_task: Count
    mem: Annotated[str | int | None, BeforeValidator(_check_memory)]
    time: Annotated[int, BeforeValidator(parse_minutes)]
    warning_seconds: CountFromZero
    max_parallel: Count | None
    max_gpu_hours: Positive | None
    stall_minutes: Positive
    preflight: bool
    exclude_bad_nodes: bool
    python: Text
    setup: list[Line]
    setup_must_succeed: bool
    sbatch: Annotated[dict[str, Any], BeforeValidator(sbatch_flags.parse_flags)]
    srun: Annotated[list[Line], AfterValidator(sbatch_flags.check_srun)]
    retries: Retries

    @classmethod
    def from_dict(cls, settings: Any) -> Profile:
        """Check the `cluster` of a resolved configuration. Raises UserError that names all faults."""
        fields = settings if isinstance(settings, dict) else {}
        retries = fields.get("retries")
        complete = fields.keys() >= cls.model_fields.keys()
        complete &= not isinstance(retries, dict) or retries.keys() >= Retries.model_fields.keys()
        return validate(cls, settings, "cluster", "" if complete else "a profile begins with defaults: [slurm, _self_]")

    @model_validator(mode="after")
    def _check_together(self) -> Profile:
        faults = sbatch_flags.contradictions(self.sbatch, self.gpus_per_node, self.mem)
        if self.time * 60 < self.warning_seconds + _LEAST_RUN_S:
            rule = (
                f"leaves less than {_LEAST_RUN_S} s of cluster.time={self.time} minutes to train; set at most "
                f"{max(0, self.time * 60 - _LEAST_RUN_S)}, or a longer cluster.time"
            )
            faults.append((("warning_seconds",), self.warning_seconds, rule))
        if faults:
            raise BrokenRulesError(faults)
        return self

    @property
    def processes(self) -> int:
        """Processes per run: one per GPU, or one per node without GPUs."""
        return self.nodes * max(1, self.gpus_per_node)

    @property
    def gpus(self) -> int:
        """GPUs per run."""
        return self.nodes * self.gpus_per_node

    def sbatch_parameters(self, job_name: str) -> dict[str, Any]:
        """The parameters for SlurmExecutor.update_parameters. Fields that are null are left to the site's defaults.

        Does not contain max_parallel, which applies to all job arrays together.
        """
        named = {name: getattr(self, name) for name in ("account", "partition", "qos", "constraint", "mem")}
        parameters: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
        typed = any(sbatch_flags.gpus_per_node(flag, value) is not None for flag, value in self.sbatch.items())
        if self.gpus_per_node and not typed:
            parameters["gpus_per_node"] = self.gpus_per_node
        return parameters | {
            "job_name": job_name,
            "time": self.time,
            "nodes": self.nodes,
            "ntasks_per_node": max(1, self.gpus_per_node),
            "cpus_per_task": self.cpus_per_task,
            "signal_delay_s": self.warning_seconds,
            "setup": list(self.setup),
            # since Slurm 22.05, srun does not inherit --cpus-per-task from sbatch
            "srun_args": ["--kill-on-bad-exit=1", f"--cpus-per-task={self.cpus_per_task}", *self.srun],
            "additional_parameters": {"requeue": True, "open-mode": "append", **self.sbatch},
            "wckey": None,  # submitit's own, which a cluster that checks keys would refuse
        }
