"""Figures are the same bytes, however many processes draw them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.rendering import plots
from analysis.rendering.model import Band, Figure, Panel


def test_several_processes_draw_the_same_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    curve = {"both": Band([0, 1, 2], [40.0, 41.0, 41.5], [39.0, 40.0, 41.0], [41.0, 42.0, 42.0])}
    figure = Figure("0.svg", "AP", "caption", "alt", ["both"], [Panel("AP", "AP", "iteration", "AP", curve)], 1, 3.0)
    figures = [replace(figure, name=f"{number}.svg", height=3.0 + number) for number in range(4)]
    one = plots.draw_all(figures)
    monkeypatch.setattr(plots, "_FIGURES_PER_PROCESS", 2)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1})
    assert list(one) == ["0.svg", "1.svg", "2.svg", "3.svg"] and plots.draw_all(figures) == one
