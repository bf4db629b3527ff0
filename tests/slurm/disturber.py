"""Disturbs runs on a virtual cluster at random, and compares them bit for bit with undisturbed ones.

    python -m tests.slurm.disturber [acts=1000] [seed=0] [out=FOLDER]

Each round launches 24 small runs with the stand-in for the trainer (tests/slurm/fake_trainer.py), whose every iteration
depends on the one before, disturbs them up to 250 times, and launches again until all are done. FOLDER/record.json has
the totals; calling again continues with the next round. The last line:

    acts, runs, lost (never done), unequal (other bits), trained twice (finished more than once)
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dynamic_rcnn import cli
from dynamic_rcnn.run.files import METRICS, TRAIN_LOG
from experiments.planning.run_state import code_now
from slurm import cli as queue
from slurm.cli import SlurmError
from tests.slurm.cluster import RunningCluster, slurm_cluster, wait_for
from tests.slurm.disturbances import Disturbances, processes_in, write_clients
from tests.slurm.test_launch import SMALL, WITH_FAKE_TRAINER

PROJECT = Path(__file__).resolve().parents[2]
TRAINER = Path(__file__).with_name("fake_trainer.py")
NODES = 4
RUNS = 24  # of a round: 4 arms with 6 seeds
BEHAVIOUR = {"seconds": 0.08, "iterations": 300, "checkpoint_every": 10}
SITE = ("cluster=slurm", "cluster.cpus_per_task=1", "cluster.mem=200M", "cluster.gpus_per_node=0", "cluster.time=30")
_PAUSE_S = (0.05, 0.8)  # between acts
_MOST_LAUNCHES = 30  # of a round's end
TOTALS = ("acts", "runs", "lost", "unequal", "trained_twice")


class Round:
    """The runs of one round, in a folder of its own."""

    def __init__(self, cluster: RunningCluster, folder: Path, seed: int, runs: int = RUNS) -> None:
        self.cluster, self.folder, self.seed = cluster, folder, seed
        self.runs = folder / "runs"
        self.clients = write_clients(folder)
        self.seeds = list(range(runs // 4))
        self.launcher: subprocess.Popen[bytes] | None = None
        self.disturbances = Disturbances(cluster, folder, self.runs, seed, self.launch)

    def launch(self, *more: str, wait: bool = False) -> int | None:
        """Start the launcher, unless it is running. Returns its process id. wait: until it has ended."""
        if self.launcher is not None and self.launcher.poll() is None:
            return None
        seeds = f"seeds=[{','.join(map(str, self.seeds))}]"
        folders = (f"runs={self.runs}", f"dataset.root={self.folder / 'shapes'}")
        arguments = [*SMALL, *SITE, *folders, seeds, "cluster.max_parallel=8", *more]
        with (self.folder / "launches.log").open("ab") as log:
            self.launcher = subprocess.Popen(
                [sys.executable, "-c", WITH_FAKE_TRAINER, str(PROJECT), *arguments],
                env=self.env,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        if wait:
            self.launcher.wait()
        return self.launcher.pid

    @property
    def env(self) -> dict[str, str]:
        fake = {"FAKE_TRAINER": json.dumps(BEHAVIOUR), "FAKE_CODE": code_now(), "COLUMNS": "300"}
        path = f"{self.clients}:{os.environ['PATH']}"
        return {**self.cluster.env, **fake, "PATH": path, "FAKE_JOURNAL": str(self.folder / "journal")}

    def disturb(self, acts: int) -> Counter[str]:
        """Launch, and do this number of acts. Returns how many of each kind."""
        self.launch(wait=True)
        disturbances = self.disturbances
        done: Counter[str] = Counter()
        while done.total() < acts and not self.is_done():
            if not processes_in(self.runs):  # all jobs were cancelled, or wait
                self.launch()
            name = disturbances.act()
            if name is not None:
                done[name] += 1
            time.sleep(disturbances.random.uniform(*_PAUSE_S))
        disturbances.repair()
        for number in range(1, self.cluster.layout.nodes + 1):
            disturbances.restore_node(number)
        return done

    def finish(self) -> None:
        """Launch again until all runs are done."""
        for _ in range(_MOST_LAUNCHES):
            if self.launcher is not None:
                self.launcher.wait()
            wait_for(self._queue_is_empty, "jobs stay in the queue")
            if self.is_done():
                break
            self.launch(wait=True)
        wait_for(lambda: not processes_in(self.runs), "processes of lost copies stay")

    def _queue_is_empty(self) -> bool:
        self.disturbances.resume_nodes()
        time.sleep(1.0)
        try:
            return not queue.active()
        except SlurmError:
            return False

    def run_dirs(self) -> list[Path]:
        return sorted(path for path in self.runs.glob("*/*/seed*-*") if path.suffix == "")

    def is_done(self) -> bool:
        return sum((path / METRICS).exists() for path in self.run_dirs()) == 4 * len(self.seeds)

    def result(self) -> dict[str, int]:
        """How many runs are lost, unequal to undisturbed ones, and trained twice."""
        runs = [path for path in self.run_dirs() if (path / METRICS).exists()]
        journal = (self.folder / "journal").read_text().split()
        unequal = [path for path in runs if _content(path) != self._undisturbed(path)]
        twice = [name for name, count in Counter(journal).items() if count > 1]
        for kind, names in (("unequal", unequal), ("trained twice", twice)):
            print(*(f"{kind}: {name}" for name in names), sep="\n", end="", flush=True)
        total = 4 * len(self.seeds)
        return {"runs": total, "lost": total - len(runs), "unequal": len(unequal), "trained_twice": len(twice)}

    def _undisturbed(self, run: Path) -> tuple[bytes, ...]:
        """The content of the same run, trained here in one go."""
        other = self.folder / "undisturbed" / run.relative_to(self.runs)
        other.mkdir(parents=True)
        env = {**os.environ, "RANK": "0", "FAKE_TRAINER": json.dumps({**BEHAVIOUR, "seconds": 0})}
        env["PYTHONPATH"] = str(PROJECT)
        subprocess.run([sys.executable, str(TRAINER)], cwd=other, env=env, check=True, stdout=subprocess.DEVNULL)
        return _content(other)


def _content(run: Path) -> tuple[bytes, ...]:
    return tuple((run / name).read_bytes() for name in (METRICS, TRAIN_LOG, "checkpoints/iteration.pth"))


def disturb_rounds(cluster: RunningCluster, out: Path, acts: int, seed: int, runs: int = RUNS, each: int = 250) -> Any:
    """Rounds until there were `acts` acts, continued from `out`/record.json. Returns the totals and acts by kind."""
    record = out / "record.json"
    none = {**dict.fromkeys(TOTALS, 0), "kinds": {}, "n": 0}
    total: Any = json.loads(record.read_text()) if record.exists() else none
    while total["acts"] < acts:
        total["n"] += 1
        folder = out / f"round{total['n']}-{os.getpid()}"
        folder.mkdir(parents=True)
        this = Round(cluster, folder, seed * 1000 + total["n"], runs)
        done = this.disturb(min(each, acts - total["acts"]))
        this.finish()
        found = {"acts": done.total(), **this.result()}
        total |= {name: total[name] + found[name] for name in TOTALS}
        total["kinds"] = dict(Counter(total["kinds"]) + done)
        record.write_text(json.dumps(total, indent=1))
        print(f"round {total['n']}: {found}", flush=True)
        cluster.clear()
    return total


def _interrupt(number: int) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str]) -> int:
    given = cli.parse(arguments, {"acts": "1000", "seed": "0", "out": "disturbed"})
    acts, seed = cli.count("acts", given["acts"], 1), cli.count("seed", given["seed"], 0)
    with cli.handle_signals([signal.SIGTERM], _interrupt), slurm_cluster(nodes=NODES, cpus=4) as cluster:
        os.environ.update(cluster.env)
        total = disturb_rounds(cluster, Path(given["out"]).resolve(), acts, seed)
    print(", ".join(f"{kind} {count}" for kind, count in sorted(total["kinds"].items())))
    print(", ".join(f"{name.replace('_', ' ')} {total[name]}" for name in TOTALS))
    return 1 if total["lost"] or total["unequal"] or total["trained_twice"] else 0


if __name__ == "__main__":
    sys.exit(cli.run(main, __doc__ or ""))
