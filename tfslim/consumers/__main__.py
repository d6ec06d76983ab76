"""Lists the programs that .tflite files can be run in here, and sets them up.

  tfslim consumers                     # Which are here?
  tfslim consumers --setup=gpu,vela
  tfslim consumers --setup=all

Their packages lie in ~/.cache/tfslim/consumers, outside of tfslim's environment;
TFSLIM_CONSUMERS moves it. `gpu` and `arm64` come out of Debian packages, which are
unpacked, not installed: apt-get and dpkg-deb must be here.

Exit codes: 0 done, 1 one of them could not be set up, 2 wrong usage.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from absl import flags

from tfslim import cli, registry
from tfslim.consumers import base, setup


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags on `values`."""
    flags.DEFINE_list(
        "setup", [], "Consumers to set up, by comma, or all.", flag_values=values
    )
    flags.DEFINE_bool(
        "again", False, "Set up anew what is here already.", flag_values=values
    )


def _run(values: flags.FlagValues, config: None) -> None:
    names = list(setup.SETUPS) if values.setup == ["all"] else values.setup
    for name in names:
        if name not in setup.SETUPS:
            raise registry.unknown_name("consumer to set up", name, known=setup.SETUPS)
    failed = []
    for name in names:
        if not base.CONSUMERS.get(name).missing() and not values.again:
            continue
        cli.say(f"{name}: setting up in {base.folder(name)} …")
        try:
            setup.set_up(name)
        except setup.SetupError as error:
            failed.append(name)
            cli.say(f"{name}: {error}")
    for name in base.CONSUMERS.names():
        consumer = base.CONSUMERS.get(name)
        cli.say(f"{name:<12} {consumer.missing() or 'here'}: {consumer.what}")
    if failed:
        raise setup.SetupError(f"Not set up: {', '.join(failed)}.")


def main(argv: Sequence[str]) -> int:
    """Runs the command line and returns its exit code."""
    return cli.run("tfslim.consumers", __doc__ or "", define_flags, _run, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
