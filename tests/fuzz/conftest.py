"""The examples are the same on every machine. FUZZ_EXAMPLES=1000 tries 1000 others per test, with a printed seed."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings

from tests.fuzz.damage import MORE

settings.register_profile(
    "fuzz",
    max_examples=MORE or 60,
    derandomize=MORE is None,
    database=None,
    deadline=None,
    print_blob=True,
    phases=[Phase.generate] if MORE else [Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("fuzz")
