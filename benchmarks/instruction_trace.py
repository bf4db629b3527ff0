"""Records the tensors of the first iterations of two trainings on shapes, for `benchmarks.instruction_sets`.

    python -m benchmarks.instruction_trace folder=FOLDER [start=FOLDER] [iterations=3] [seed=0]

It trains the classifier that pretrains backbones, and the baseline detector without a pretraining, on one thread. The
tensors of iteration 2 are in FOLDER/pretraining/2.pt and FOLDER/detector/2.pt, the initial weights in 0.pt. With
`start`, the folder of another trace, the trainings record their own initial weights and continue with those of `start`.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dynamic_rcnn.cli import count, parse, run
from dynamic_rcnn.data import dataset
from dynamic_rcnn.engine import build
from dynamic_rcnn.engine.precision import Precision
from dynamic_rcnn.engine.step import Step
from dynamic_rcnn.ops.faster_modules import FasterRoIExtractor
from dynamic_rcnn.run.spec import RunSpec
from experiments.config.build import build_grid
from experiments.config.compose import resolve

PARTS = ("pretraining", "detector")
IMAGES, INTEGERS, SAMPLES, WEIGHTS = "images", "integers", "samples", "weights"  # some of the stages
UNDEFINED = ("empty", "empty_like", "empty_strided", "new_empty", "resize_", "set_")  # operators that fill in no values
Trace = dict[tuple[str, str], Tensor]  # by (stage, name), in the order in which the tensors were computed


def main(arguments: Sequence[str]) -> int:
    """Exit code 0. Prints the processor's instructions that torch and oneDNN use."""
    values = parse(arguments, {"folder": "", "start": "", "iterations": "3", "seed": "0"})
    folder, iterations = Path(values["folder"]), count("iterations", values["iterations"], 1)
    torch.set_num_threads(1)
    print(f"aten:{torch.backends.cpu.get_cpu_capability()}", flush=True)
    if torch.backends.mkldnn.is_available():
        with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):  # prints a line with isa:
            torch.nn.functional.conv2d(torch.ones(2, 16, 32, 32), torch.ones(16, 16, 3, 3))
    specs = make_specs(folder / "shapes", iterations, count("seed", values["seed"], 0))
    for name, spec in zip(PARTS, specs, strict=True):
        start = Path(values["start"]) / name / "0.pt" if values["start"] else None
        record(spec, folder / name, start, iterations)
    return 0


def make_specs(root: Path, iterations: int, seed: int) -> tuple[RunSpec, RunSpec]:
    """The pretraining and the baseline of the ablation, with as many images as the iterations use."""
    small = {"dataset.recipe": 4 * iterations, "base.pretrain.recipe": 32 * iterations}
    images = [f"{name}.{key}" for name, each in small.items() for key in (f"train_images={each}", "val_images=1")]
    where = ["grid=ablation", "dataset=shapes", "cluster=local", f"dataset.root={root}"]
    grid = build_grid(resolve([*where, *images, "dataset.recipe.test_images=0"])[0])
    assert grid.pretrain is not None
    return grid.pretrain.with_seed(seed), grid.spec("baseline", seed)


def record(spec: RunSpec, folder: Path, start: Path | None, iterations: int) -> None:
    """Train as `engine.trainer` does, and write a file for each iteration. start: a file with the initial weights."""
    folder.mkdir(parents=True)
    images = build.build_dataset(spec, "train", dataset.prepare(spec.dataset).root)
    batches = build.Batches(images, spec.seed, spec.config["train"], range(1))
    model = build.build_model(spec)
    torch.save({(WEIGHTS, name): value for name, value in model.state_dict().items()}, folder / "0.pt")
    if start is not None:
        model.load_state_dict({name: value for (_, name), value in torch.load(start).items()})
    optimizer = build.build_optimizer(spec, model)
    schedulers = build.build_schedulers(spec, optimizer)
    precision = Precision(spec.config["train"]["precision"], torch.device("cpu"))
    recorder = Recorder(Step(model.train(), optimizer, precision, spec.seed))
    for number, batch in enumerate(batches.between(0, iterations)):
        torch.save(recorder.train(number, batch), folder / f"{number + 1}.pt")
        for scheduler in schedulers:
            scheduler.step()


class Recorder(TorchDispatchMode):
    """Trains, and records what is computed: outputs of modules, samples, and the integers and booleans of operators.

    Operators give integers and booleans where something is chosen: by sort, NMS, a comparison, or a random permutation.
    """

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step, self.model = step, step.model
        for name, module in self.model.named_modules():
            if not list(module.children()) or isinstance(module, FasterRoIExtractor):
                stage = IMAGES if module is self.model.data_preprocessor else "modules"
                module.register_forward_hook(partial(self._record_output, stage, name))
        self.model.backbone.register_forward_pre_hook(lambda _, inputs: self.add(IMAGES, "backbone's input", inputs))
        for head, name in (("rpn_head", "sampler"), ("roi_head", "bbox_sampler")):
            if hasattr(self.model, head):
                self._record_samples(f"{head}.{name}", getattr(getattr(self.model, head), name))
        step.optimizer.optimizer.register_step_pre_hook(self._keep_gradients)

    def train(self, iteration: int, batches: list[Any]) -> Trace:
        """Train one iteration, counted from 0. Returns its tensors."""
        self.trace: Trace = {}
        self.calls: Counter[tuple[str, str]] = Counter()
        with self:
            losses = self.step.train(iteration, batches)
        changed = {id(each) for each in self.step.running}  # the statistics of batch normalisation
        running = [(name, each) for name, each in self.model.named_buffers() if id(each) in changed]
        last = {"losses": losses.items(), "gradients": self.gradients, "statistics": running}
        for stage, named in {**last, WEIGHTS: self.model.named_parameters()}.items():
            for name, value in named:
                self.add(stage, name, value)
        return self.trace

    def add(self, stage: str, name: str, value: Any) -> None:
        """Record a copy of each tensor in `value`."""
        for each in tensors(value):
            self.calls[stage, name] += 1
            call = self.calls[stage, name]
            self.trace[stage, name if call == 1 else f"{name} ({call})"] = each.detach().clone()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        aliases = [each.alias_info for each in func._schema.returns]
        is_view = any(each is not None and not each.is_write for each in aliases)
        if not is_view and func.overloadpacket.__name__ not in UNDEFINED:
            self.add(INTEGERS, str(func.overloadpacket), [each for each in tensors(found) if is_discrete(each)])
        return found

    def _record_output(self, stage: str, name: str, module: Any, inputs: Any, output: Any) -> None:
        self.add(stage, name, output)

    def _record_samples(self, name: str, sampler: Any) -> None:
        sample = sampler.sample

        def recorded(*args: Any, **kwargs: Any) -> Any:
            found = sample(*args, **kwargs)
            indices = [found.pos_inds, found.neg_inds, found.pos_assigned_gt_inds]
            self.add(SAMPLES, f"{name} indices", indices)
            self.add(SAMPLES, f"{name} boxes", [found.pos_priors, found.neg_priors])
            return found

        sampler.sample = recorded

    def _keep_gradients(self, *_: Any) -> None:
        """Keep the gradients after clipping, those that the backward pass computes first at the front."""
        named = [(name, each) for name, each in self.model.named_parameters() if each.requires_grad]
        self.gradients = [(name, each.grad.clone()) for name, each in reversed(named) if each.grad is not None]


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested containers; of an image's annotations, the boxes and labels."""
    if isinstance(value, Tensor):
        yield value
    elif hasattr(value, "gt_instances"):
        yield from tensors([value.gt_instances.bboxes, value.gt_instances.labels])
    elif isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from tensors(each)


def is_discrete(value: Tensor) -> bool:
    """Whether a tensor has integers or booleans."""
    return not value.is_floating_point()


if __name__ == "__main__":
    sys.exit(run(main, __doc__ or ""))
