"""What provenance.json says about the machine."""

from __future__ import annotations

import pytest

from dynamic_rcnn.run import provenance


def test_the_processor_is_named_with_the_variables_that_choose_its_instructions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in provenance.INSTRUCTIONS:
        monkeypatch.delenv(name, raising=False)
    plain = provenance.collect().processor
    assert plain
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    assert provenance.collect().processor == f"{plain}, ATEN_CPU_CAPABILITY=default, ONEDNN_MAX_CPU_ISA=AVX"
