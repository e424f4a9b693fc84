"""What tests share: ways to make recordings, datasets, small disks; a trainer to kill; a slow reference."""
