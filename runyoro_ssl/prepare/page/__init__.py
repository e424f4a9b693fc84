"""prepare_report.html: a prepared corpus to look at and to listen to, in one file that needs nothing else."""
