"""report.html of a run, and several runs side by side. Reads a run's files; needs no data set and
no encoder.
"""

from ssl_parts.report.page import compared_as_text, write_comparison, write_report
from ssl_parts.report.run_files import runs_below

__all__ = ["compared_as_text", "runs_below", "write_comparison", "write_report"]
