"""Continued pre-training: batches, masking, model, objective, optimizer, checkpoints, and the loop that joins them.

The training step (masking, model, objective, optim) needs only torch and transformers.
"""
