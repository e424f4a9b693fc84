"""Continued pre-training: a run is built (`setup`), and takes its steps (`step`) in a `loop`.

What is kept of it is in `checkpoints`, what watches over it in `health`, and how it ends before its end in `stopping`.

The training step (`step`, `optim`) needs only torch, transformers and Accelerate.
"""
