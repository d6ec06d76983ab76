"""Results → Markdown and the table of the terminal."""

from tfslim.report.analysis_table import to_node_data as analysis_to_node_data
from tfslim.report.analysis_table import to_text as analysis_to_text
from tfslim.report.better import better_files, is_slower
from tfslim.report.consumers_table import consumers_to_markdown, consumers_to_terminal
from tfslim.report.front_plot import plot_front
from tfslim.report.latency import latency_to_markdown, latency_to_terminal
from tfslim.report.markdown import step_facts, to_markdown
from tfslim.report.table import to_terminal

__all__ = [
    "analysis_to_node_data",
    "analysis_to_text",
    "better_files",
    "consumers_to_markdown",
    "consumers_to_terminal",
    "is_slower",
    "latency_to_markdown",
    "latency_to_terminal",
    "plot_front",
    "step_facts",
    "to_markdown",
    "to_terminal",
]
