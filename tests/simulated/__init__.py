"""What `simulation.py` needs: a clock, a device, a share and a disk that are made up, and who looks at what is left."""
