"""prepare_report.html: a prepared corpus to look at and to listen to, in one file that needs nothing else."""

from runyoro_ssl.prepare.page.summary import ClipSummary
from runyoro_ssl.prepare.page.write import write_page

__all__ = ["ClipSummary", "write_page"]
