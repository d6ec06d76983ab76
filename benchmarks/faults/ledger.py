"""What was tried, and what was lost."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass
class Row:
    """One kind of fault: how often it was tried and what was lost by it."""

    name: str
    tried: int = 0
    lost: list[str] = dataclasses.field(default_factory=list)
    note: str = ""

    @property
    def survived(self) -> int:
        """Trials in which nothing was lost."""
        return self.tried - len(self.lost)

    def add(self, problem: str | None) -> None:
        """Counts one trial; `problem` says what was lost in it, None: nothing."""
        self.tried += 1
        if problem is not None:
            self.lost.append(" ".join(problem.split())[:400])


def table(rows: list[Row]) -> str:
    """Returns the rows as a Markdown table."""
    lines = ["| fault | tried | survived | lost |", "|---|---:|---:|---:|"]
    for row in rows:
        name = f"{row.name} ({row.note})" if row.note else row.name
        lines.append(f"| {name} | {row.tried} | {row.survived} | {len(row.lost)} |")
    return "\n".join(lines)
