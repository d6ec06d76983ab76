"""`report.html`: one file that shows a result and opens anywhere, offline."""

from tfslim.report.html.page import compare_to_html, to_html

__all__ = ["compare_to_html", "to_html"]
