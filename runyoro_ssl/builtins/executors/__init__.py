"""Where the work of prepare may run: processes of this machine, a Dask cluster, Slurm."""
