"""What is built in, registered through the same hooks as everything else."""
