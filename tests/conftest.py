"""Set-up of every test session."""

import signal

import pytest

# A shell starts background jobs with SIGINT ignored, and children inherit that: tests of Ctrl-C need the default.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of several processes (pytest -n 2 --dist loadgroup) one has all tests of Slurm, which share a cluster."""
    for item in items:
        if "tests/slurm/" in item.nodeid:
            item.add_marker(pytest.mark.xdist_group("slurm"))
