"""The schema of a grid file: its arms, and how they are compared and timed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from dynamic_rcnn.metrics.names import AP_METRICS, MASK_METRICS
from dynamic_rcnn.run.comparisons import Contrasts, Equivalence, Factorial, comparison_faults
from dynamic_rcnn.run.manifest import Paper, PlainName
from dynamic_rcnn.run.results import PRETRAIN
from dynamic_rcnn.run.schema import BrokenRulesError, Fault, Schema, similar_hint
from dynamic_rcnn.run.spec import BENCHMARK, EVALUATE
from dynamic_rcnn.run.values import Count, value_rule
from experiments.config.base_schema import DeclaredSeconds, Rounds, Seeds
from experiments.config.conf_files import names_of
from experiments.config.foreign_base import is_foreign

EVALUATION_OPTIONS = ("model.test_cfg", "data.test_pipeline")
_COMPARISONS = ("contrasts", "factorial", "equivalence")
_TRAINING_FIELDS = ("seeds", "cost", *_COMPARISONS, "seen_seeds")  # only of grids whose runs train


def _base_name(name: str) -> str:
    valid = names_of("base")
    if name not in valid and not is_foreign(name):
        raise ValueError(f"unknown base{similar_hint(name, valid)}; valid: {', '.join(valid)}")
    return name


BaseName = Annotated[str, AfterValidator(_base_name)]


class Replay(Schema):
    """The runs whose T and beta an arm trains with.

    values: the last ones throughout ("final"), or those of each window ("all"), also in another order. of_other_seed:
    those of a run of another seed, see `grid.other_seed`. The name of an arm alone stands for the final values.
    """

    arm: str
    values: Literal["final", "all", "reversed", "shuffled"] = "final"
    of_other_seed: bool = False

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, given: Any) -> Any:
        return {"arm": given} if isinstance(given, str) else given


class Arm(Schema):
    """An arm: what it changes in the base, with other changes for some bases.

    weights_of: the arm whose trained weights it evaluates, with other evaluation options.
    """

    title: str
    changes: dict[str, Any] = Field(default_factory=dict, alias="set")
    changes_for: dict[BaseName, dict[str, Any]] = Field(default_factory=dict, alias="set_for")
    replay: Replay | None = None
    weights_of: str | None = None
    baseline: str | None = None

    @property
    def source(self) -> str | None:
        """The arm whose run must be done first."""
        return next(filter(None, self.sources.values()), None)

    @property
    def sources(self) -> dict[str, str | None]:
        """Field -> the arm that it names."""
        return {"replay": self.replay.arm if self.replay else None, "weights_of": self.weights_of}

    def changes_to(self, base: str) -> dict[str, Any]:
        """Dotted path -> value of what the arm changes in the base of that name."""
        return {**self.changes, **self.changes_for.get(base, {})}

    @property
    def paths(self) -> list[str]:
        return [path for changes in (self.changes, *self.changes_for.values()) for path in changes]


def changes_of(arms: Mapping[str, Arm], name: str, base: str) -> dict[str, Any]:
    """Dotted path -> value of what an arm changes in the base of that name, with the changes of its `weights_of`."""
    trained = arms.get(arms[name].weights_of or "")
    return {**(trained.changes_to(base) if trained else {}), **arms[name].changes_to(base)}


class BenchmarkTraining(Schema):
    """What is timed in training, and how often."""

    arms: list[str]
    warmup: Count
    rounds: Rounds
    iterations: Count


class BenchmarkInference(Schema):
    """What is timed at inference, and how often."""

    warmup: Count
    rounds: Rounds
    images: Count


class Benchmark(Schema):
    """How a grid with `task: benchmark` times its arms."""

    training: BenchmarkTraining
    inference: BenchmarkInference


class GridFile(Schema):
    """The field `grid` of a grid file."""

    name: PlainName
    title: str
    task: Literal["train", "evaluate", "benchmark"] = "train"
    baseline: str
    arms: Annotated[
        dict[PlainName, Arm],
        value_rule("has no arms; give at least one under grid.arms", lambda v: v is not None and v != {}),
    ]
    seeds: Seeds | None = None
    cost: dict[str, DeclaredSeconds] | None = None
    paper: Paper | None = None
    contrasts: Contrasts | None = None
    factorial: Factorial | None = None
    equivalence: list[Equivalence] | None = None
    seen_seeds: dict[str, list[int]] | None = None
    base_for: dict[BaseName, BaseName] | None = None
    benchmark: Benchmark | None = None

    @model_validator(mode="after")
    def _check_arms(self) -> GridFile:
        declared = (self.contrasts or [], self.factorial or {}, self.equivalence or [])
        broken = [*comparison_faults(*declared, self.arms, self.baseline), *self._name_faults(), *self._task_faults()]
        if self.benchmark:
            broken += self._benchmark_faults(self.benchmark)
        if broken:
            raise BrokenRulesError(broken)
        return self

    def _name_faults(self) -> Iterator[Fault]:
        """References to unknown arms, and settings that an arm cannot change."""
        valid = f"valid: {', '.join(self.arms)}"
        if self.baseline not in self.arms:
            yield ("baseline",), self.baseline, f"unknown arm; {valid}"
        for name, arm in self.arms.items():
            place = ("arms", name)
            if name == PRETRAIN:
                yield place, arm.title, f"{PRETRAIN!r} is the name of the pretraining; choose another"
            yield from self._source_faults(name, arm)
            if arm.baseline is not None and arm.baseline not in self.arms:
                yield (*place, "baseline"), arm.baseline, f"unknown arm; {valid}"
            elif arm.baseline is not None and self.arms[arm.baseline].baseline is not None:
                yield (*place, "baseline"), arm.baseline, "has a baseline itself; name an arm that has none"
            if {"train", "train.processes"} & set(arm.paths):
                yield place, arm.title, "an arm cannot set train.processes, which the cluster sets; name other settings"
        metrics = (*AP_METRICS, *MASK_METRICS)
        for index, claim in enumerate(self.equivalence or []):
            for name in (each for each in claim.margins if each not in metrics):
                rule = f"unknown metric; valid: {', '.join(metrics)}"
                yield ("equivalence", index, "margins", name), claim.margins[name], rule
        for dataset, cost in (self.cost or {}).items():
            for arm in (each for each in (cost if isinstance(cost, dict) else ()) if each not in self.arms):
                yield ("cost", dataset, arm), cost[arm], f"unknown arm; {valid}"

    def _source_faults(self, name: str, arm: Arm) -> Iterator[Fault]:
        """An unknown arm, or one with a source itself, as the source of `arm`; what `weights_of` does not allow."""
        valid = [other for other, each in self.arms.items() if each.source is None]
        for field, source in arm.sources.items():
            if source is not None and source not in valid:
                yield ("arms", name, field), source, f"unknown arm; valid: {', '.join(valid)}"
        if arm.weights_of is None:
            return
        if arm.replay is not None:
            yield (
                ("arms", name, "replay"),
                arm.replay.arm,
                "an arm with weights_of trains nothing; remove one of the two",
            )
        for path in (path for path in arm.paths if not path.startswith(EVALUATION_OPTIONS)):
            rule = "an arm with weights_of sets only evaluation options: " + ", ".join(EVALUATION_OPTIONS)
            yield ("arms", name, "set"), path, rule

    def _task_faults(self) -> Iterator[Fault]:
        """Fields that do not belong to the grid's task."""
        if (self.benchmark is not None) != (self.task == BENCHMARK):
            given = self.benchmark and self.benchmark.model_dump()
            yield (BENCHMARK,), given, f"belongs to grid.task=benchmark; the task is {self.task}"
        if self.task == EVALUATE:
            fields: dict[tuple[str | int, ...], Any] = {(name,): getattr(self, name) for name in _TRAINING_FIELDS}
            arms = self.arms.items()
            fields |= {("arms", name, field): source for name, arm in arms for field, source in arm.sources.items()}
            for place, value in fields.items():
                if value is not None:
                    yield place, value, "a grid with task: evaluate trains nothing; remove this field"

    def _benchmark_faults(self, benchmark: Benchmark) -> Iterator[Fault]:
        place, trained = (BENCHMARK, "training", "arms"), benchmark.training.arms
        if self.baseline not in trained:
            yield place, trained, f"must be a list with the baseline {self.baseline}"
        for arm in (each for each in trained if each not in self.arms):
            yield place, arm, f"unknown arm; valid: {', '.join(self.arms)}"
        for field in _COMPARISONS:
            if getattr(self, field):
                yield (field,), getattr(self, field), _ALL_TIMED
        for name, content in self.arms.items():
            for field, value in {"baseline": content.baseline, **content.sources}.items():
                if value is not None:
                    yield ("arms", name, field), value, _ALL_TIMED
            for path in (each for each in content.paths if each.split(".")[0] != "model"):
                rule = "all arms are timed on the same data and schedule; set only model.*"
                yield ("arms", name, "set"), path, rule


_ALL_TIMED = "must be left out with task: benchmark, which times all arms against grid.baseline"
