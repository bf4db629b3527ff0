"""A real, private Slurm on this machine, for tests: `python -m slurm.testcluster --help`."""
