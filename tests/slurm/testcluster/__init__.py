"""A real, private Slurm on this machine, for tests: `python -m tests.slurm.testcluster --help`."""
