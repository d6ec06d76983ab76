"""Builds report.html and report.md anew from folders of results, and compares runs.

  tfslim report out/quickstart
  tfslim report out/a out/b --out=compared.html

Of one folder both are written into it; of several, one page with all their files in
one table goes to --out.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from tfslim import cli, errors, files, manifest, report
from tfslim.report import folders, html


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags on `values`."""
    flags.DEFINE_list("dirs", [], "The folders, also plain.", flag_values=values)
    flags.DEFINE_string(
        "out",
        None,
        "The page; default: report.html in the folder, or here for several.",
        flag_values=values,
    )


def _run(values: flags.FlagValues, _: Any) -> None:
    paths = [Path(name) for name in values.dirs]
    if not paths:
        raise errors.ConfigError("No folder was given: tfslim report out/quickstart")
    runs = folders.read(paths)
    if len(paths) > 1:
        out = Path(values.out or folders.PAGE)
        files.require_writable(out, "--out")
        files.write_text(out, html.compare_to_html(runs))
        cli.say(f"{out} compares {len(paths)} runs.")
        return
    [(result, extras)] = runs.values()
    if values.out:
        files.write_text(values.out, html.to_html(result, extras))
    else:
        # The manifest names the reports, too: they are replaced together.
        named = manifest.read(paths[0])
        files.write_text(paths[0] / folders.PAGE, html.to_html(result, extras))
        files.write_text(paths[0] / "report.md", report.to_markdown(result))
        if named is not None:
            manifest.write(paths[0], {*named, folders.PAGE, "report.md"})
    report.to_terminal(result)
    cli.say(f"{values.out or paths[0] / folders.PAGE} is written.")


def main(argv: Sequence[str]) -> int:
    """Runs the command line and returns its exit code."""
    doc = __doc__ or ""
    return cli.run("tfslim.report", doc, define_flags, _run, argv, plain="dirs")


if __name__ == "__main__":
    sys.exit(main(sys.argv))
