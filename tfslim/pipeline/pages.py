"""The last files of an export: what people read, and what programs read."""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any

import ml_collections

from tfslim import apps, report
from tfslim.pipeline import folder as folder_lib
from tfslim.report import folders, html

# Names of the classes, one a line, in the order of the model's scores.
_LABELS = "labels.txt"


def write(
    folder: folder_lib.Folder,
    content: Mapping[str, Any],
    *,
    config: ml_collections.ConfigDict,
    files: Mapping[str, bytes],
    more: Mapping[str, Any] = types.MappingProxyType({}),
) -> None:
    """Writes code for apps, the config, the reports and `result.json`; the end.

    Args:
        folder: of the results.
        content: of `result.json`.
        config: as it was resolved; `--config` reads it again.
        files: name of each `.tflite` -> its content.
        more: for the page, as `report.html` takes it: "samples", "histograms", ….
    """
    code = apps.app_code(files)
    labels = next((apps.read_about(file).labels for file in files.values()), ())
    if labels:
        folder.write_text(_LABELS, "".join(f"{label}\n" for label in labels))
    for name, text in code.items():
        folder.write_text(name, text)
    folder.write_text(folder_lib.CONFIG, config.to_json(indent=2) + "\n")
    folder.write_text(folder_lib.REPORT, report.to_markdown(content))
    extras = {"command": folders.command(), **more}
    folder.write_json(folder_lib.EXTRAS, extras)
    page = html.to_html(content, {**extras, "code": code})
    folder.write_text(folder_lib.PAGE, page)
    folder.write_json(folder_lib.RESULT, content)
    folder.finish()
