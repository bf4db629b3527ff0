"""How a run becomes a job on a Slurm cluster."""
