"""The network: where it comes from, its forward pass, masks and objective, and the memory that it takes."""
