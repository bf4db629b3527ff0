"""Where runs happen: job arrays on a Slurm cluster, or slots of this machine."""
