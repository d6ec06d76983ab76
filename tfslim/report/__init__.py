"""Results → Markdown and the table of the terminal."""

from tfslim.report.markdown import to_markdown
from tfslim.report.table import to_terminal

__all__ = ["to_markdown", "to_terminal"]
