"""Executors, where the work of prepare runs: processes of this machine, a Dask cluster, Slurm."""
