"""`report.html`: one file that shows a result and opens anywhere, offline."""

from tfslim.report.html.analysis import analysis_to_html
from tfslim.report.html.page import compare_to_html, to_html

__all__ = ["analysis_to_html", "compare_to_html", "to_html"]
