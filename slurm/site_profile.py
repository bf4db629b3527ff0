"""What a job asks Slurm for: a site's cluster profile, checked, and as parameters of submitit's SlurmExecutor."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from dynamic_rcnn.errors import UserError
from slurm import sbatch_flags as flags

# the ways to end that a run is requeued after; see slurm/end_causes.py
MOST_MINUTES = 14 * 1440
RETRIES = ("time_out", "preempted", "requeued", "node_failure", "out_of_memory", "stalled", "killed", "error", "nan")
LEAST_RUN_S = 60  # of a time limit, before the warning
_TEXTS = ("account", "partition", "qos", "constraint", "python")
_COUNTS = {"nodes": 1, "gpus_per_node": 0, "cpus_per_task": 1, "warning_seconds": 0}
_MEMORY = re.compile(r"0|[1-9]\d*[KMGT]B?", re.IGNORECASE | re.ASCII)
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<parts>\d+(?::\d{1,2}){0,2})", re.ASCII)


@dataclass(frozen=True)
class Profile:
    """The fields of conf/cluster/slurm.yaml, which says what each is for. time: minutes; mem: a node's, with a unit."""

    name: str
    executor: str
    account: str | None
    partition: str | None
    qos: str | None
    constraint: str | None
    nodes: int
    gpus_per_node: int
    cpus_per_task: int
    mem: str | int | None
    time: int
    warning_seconds: int
    max_parallel: int | None
    max_gpu_hours: float | None
    stall_minutes: float
    python: str | None
    setup: list[str]
    sbatch: dict[str, Any]
    srun: list[str]
    retries: dict[str, int]

    @classmethod
    def from_dict(cls, settings: Any) -> Profile:
        """The profile of a settled configuration's `cluster`. Raises UserError for a rule that it breaks.

        Unknown fields, those of `retries` too, are all named in one error.
        """
        if not isinstance(settings, Mapping):
            raise UserError(f"cluster={settings}: must be a mapping")
        _check_names(settings, [field.name for field in fields(cls)])
        values = dict(settings)
        for name in _TEXTS:
            if isinstance(values[name], int) and not isinstance(values[name], bool):
                values[name] = str(values[name])  # an account may be a number
            _check_text(name, values[name])
        for name, least in _COUNTS.items():
            _check_count(name, values[name], least)
        for name in RETRIES:
            _check_count(f"retries.{name}", values["retries"][name], 0)
        if values["max_parallel"] is not None:
            _check_count("max_parallel", values["max_parallel"], 1, ", or null")
        if values["max_gpu_hours"] is not None:
            _check_positive("max_gpu_hours", values["max_gpu_hours"], ", or null")
        _check_positive("stall_minutes", values["stall_minutes"])
        _check_memory(values["mem"])
        values["time"] = minutes(values["time"])
        _check_warning(values["time"], values["warning_seconds"])
        for name in ("setup", "srun"):
            _check_lines(name, values[name])
        flags.check_srun(values["srun"])
        values["sbatch"] = flags.checked(values["sbatch"], values)
        return cls(**values)

    @property
    def processes(self) -> int:
        """Processes of a run: one a GPU, without GPUs one a node."""
        return self.nodes * max(1, self.gpus_per_node)

    @property
    def gpus(self) -> int:
        """GPUs of a run."""
        return self.nodes * self.gpus_per_node

    def sbatch_parameters(self, job_name: str) -> dict[str, Any]:
        """The parameters for SlurmExecutor.update_parameters; what is null is left to the site's defaults.

        Not among them: max_parallel, which is for all arrays together.
        """
        named = {name: getattr(self, name) for name in ("account", "partition", "qos", "constraint", "mem")}
        parameters: dict[str, Any] = {name: value for name, value in named.items() if value is not None}
        typed = any(flags.gpus_asked(flag, value) is not None for flag, value in self.sbatch.items())
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
            # since Slurm 22.05 srun does not take over sbatch's --cpus-per-task
            "srun_args": ["--kill-on-bad-exit=1", f"--cpus-per-task={self.cpus_per_task}", *self.srun],
            "additional_parameters": {"requeue": True, "open-mode": "append", **self.sbatch},
            "wckey": None,  # submitit's own, which a cluster that checks keys would refuse
        }


def minutes(value: Any) -> int:
    """A time limit in minutes: a number, or a text in one of sbatch's forms; seconds are rounded up.

    Raises UserError for anything else, and for 0, which Slurm takes for no limit.
    """
    if isinstance(value, int) and value > MOST_MINUTES:  # YAML reads 12:00:00 without quotes as 43200
        raise UserError(f'cluster.time={value}: more than 14 days as a number of minutes; give "12:00:00" in quotes')
    total = value if isinstance(value, int) and not isinstance(value, bool) else _minutes_of(str(value))
    if total < 1:
        raise UserError(
            f'cluster.time={value}: must be minutes, an integer of at least 1, or a text such as "1-00:00:00" '
            '(a day) or "12:00:00", in quotes'
        )
    return total


def _minutes_of(text: str) -> int:
    """Minutes of M, M:S, H:M:S, D-H, D-H:M or D-H:M:S; 0 for anything else."""
    found = _TIME.fullmatch(text)
    if found is None:
        return 0
    parts = [int(part) for part in found["parts"].split(":")]
    if found["days"] is not None or len(parts) == 3:
        hours, minute, second = (*parts, 0, 0)[:3]
    else:
        hours, minute, second = 0, *(*parts, 0)[:2]
    return -(-(int(found["days"] or 0) * 86400 + hours * 3600 + minute * 60 + second) // 60)


def _check_names(settings: Mapping[str, Any], valid: Sequence[str]) -> None:
    retries = settings.get("retries", {})
    if not isinstance(retries, Mapping):
        raise UserError(f"cluster.retries={retries}: must map each of {', '.join(RETRIES)} to how often to try again")
    unknown = [_unknown(name, valid) for name in settings if name not in valid]
    unknown_retries = [_unknown(f"retries.{name}", RETRIES) for name in retries if name not in RETRIES]
    if unknown or unknown_retries:
        allowed = [f"valid: {', '.join(valid)}"] if unknown else []
        allowed += [f"valid in retries: {', '.join(RETRIES)}"] if unknown_retries else []
        listed = ", ".join((*unknown, *unknown_retries))
        raise UserError(f"cluster {settings.get('name')}: unknown setting {listed}; {'; '.join(allowed)}")
    missing = [name for name in valid if name not in settings] + [f"retries.{n}" for n in RETRIES if n not in retries]
    if missing:
        raise UserError(f"cluster: {', '.join(missing)} must be given; a profile begins with defaults: [slurm, _self_]")


def _unknown(name: str, valid: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(name).rpartition(".")[2], valid, n=1)
    return f"{str(name)!r}" + (f" (did you mean {near[0]!r}?)" if near else "")


def _check_text(name: str, value: Any) -> None:
    if value is not None and (not isinstance(value, str) or not value.strip() or "\n" in value):
        raise UserError(f"cluster.{name}={value}: must be text on one line, or null")


def _check_count(name: str, value: Any, least: int, extra: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"cluster.{name}={value}: must be an integer of at least {least}{extra}")


def _check_positive(name: str, value: Any, extra: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise UserError(f"cluster.{name}={value}: must be a positive number{extra}")


def _check_memory(value: Any) -> None:
    if value is not None and _MEMORY.fullmatch(str(value)) is None:
        raise UserError(
            f"cluster.mem={value}: must be a node's memory with a unit (K, M, G, T), e.g. 64G, 0 for all of it, or null"
        )


def _check_warning(time: int, warning: int) -> None:
    if time * 60 < warning + LEAST_RUN_S:
        raise UserError(
            f"cluster.warning_seconds={warning}: leaves less than {LEAST_RUN_S} s of cluster.time={time} minutes to "
            f"train; give at most {max(0, time * 60 - LEAST_RUN_S)}, or a longer cluster.time"
        )


def _check_lines(name: str, value: Any) -> None:
    if not isinstance(value, list) or not all(isinstance(line, str) and "\n" not in line for line in value):
        raise UserError(f"cluster.{name}={value}: must be a list of texts, each on one line; [] for none")
