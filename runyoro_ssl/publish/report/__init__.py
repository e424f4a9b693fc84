"""report.html: a run, and what an evaluation says of it, on one page for people who do not know TensorBoard."""
