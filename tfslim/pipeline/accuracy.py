"""What each file costs in accuracy, against the model as given."""

from __future__ import annotations

from typing import Any

from tfslim import evaluation
from tfslim.pipeline import making

KERAS = "Keras"


def compare(made: making.MadeOfKeras, original: dict[str, Any] | None) -> None:
    """Adds to each row how its accuracy changed, and takes the single answers out.

    Args:
        made: its rows get "change": an `evaluation.AccuracyChange` as JSON and, as
            "against", the model they are compared with; None where the task's metric
            is no share of right answers.
        original: the row of the model before the steps, if there were any; else the
            files are compared with the Keras model.
    """
    base, against = made.keras_right, KERAS
    if original is not None:
        base, against = original.pop("right"), making.ORIGINAL
    for row in made.rows:
        right = row.pop("right")
        row["change"] = None
        if base is not None and right is not None:
            change = evaluation.paired_change(base, right)
            row["change"] = {"against": against, **change.to_json()}
