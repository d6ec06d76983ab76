"""What ops cost on one device: a JSON file in the user's cache folder."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tfslim import errors, files
from tfslim.benchmark import environment
from tfslim.benchmark.costs.spec import IDLE
from tfslim.benchmark.result import Options

SCHEMA_VERSION = 2
# The environment variable that says where the tables lie.
FOLDER_VARIABLE = "TFSLIM_COSTS"


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpCost:
    """The measured time of one op, alone in a file.

    Attributes:
        us: microseconds of a run with its tensors in the caches; None if it cannot run
            alone, for `reason`.
        cold_us: of a run with its weights out of the caches; None: not measured.
        reason: why there is no time.
    """

    us: float | None
    cold_us: float | None = None
    reason: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Device:
    """What a cost depends on besides the op.

    Attributes:
        cpu: its name.
        features: instruction sets that decide which kernels run.
        runtime: the runtime's version.
        threads: of the kernels.
        delegate: as in `benchmark.Options`.
        cache_bytes: of the last-level cache; None where it is not known.
    """

    cpu: str
    features: tuple[str, ...]
    runtime: str
    threads: int = 1
    delegate: str = "xnnpack"
    cache_bytes: int | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """All that makes two devices different."""
        found = dataclasses.asdict(self)
        return {**found, "features": list(self.features)}

    @property
    def file_name(self) -> str:
        """Of its table: readable, and different for different devices."""
        text = json.dumps(self.identity, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        name = "".join(c if c.isalnum() else "-" for c in self.cpu)[:40].strip("-")
        return f"{name or 'device'}-{self.threads}t-{digest}.json"


def this_device(options: Options | None = None) -> Device:
    """Describes this machine with the given threads and delegate."""
    options = options or Options()
    host = environment.host()
    return Device(
        cpu=str(host["cpu"] or host["machine"]),
        features=tuple(host["cpu_features"]),
        runtime=f"ai-edge-litert {host['versions'].get('ai-edge-litert', '?')}",
        threads=options.num_threads,
        delegate=options.delegate,
        cache_bytes=environment.cache_bytes(),
    )


class CostTable:
    """The costs that are known of a device.

    Attributes:
        device: which.
        peaks: the measured roofline, see `roofline`; empty: unknown.
        path: of the file that holds it.
    """

    def __init__(self, device: Device, folder: Path | None = None):
        """Reads what is there; a file that cannot be read counts as none.

        Args:
            device: which.
            folder: of the tables; None: TFSLIM_COSTS, or the user's cache folder.
        """
        self.device = device
        self.peaks: dict[str, float] = {}
        self.path = (folder or _folder()) / device.file_name
        self._ops: dict[str, OpCost] = {}
        content = _read(self.path, device)
        if content is not None:
            self.peaks = dict(content["peaks"])
            self._ops = {k: OpCost(**v) for k, v in content["ops"].items()}

    @property
    def overhead(self) -> OpCost:
        """Of running a file at all: the cost of an op that does nothing."""
        return self._ops.get(IDLE.key) or OpCost(us=0.0)

    def __len__(self) -> int:
        return len(self._ops)

    def __contains__(self, key: str) -> bool:
        return key in self._ops

    def get(self, key: str) -> OpCost | None:
        """Returns the cost of the op with that key, None if it was not measured."""
        return self._ops.get(key)

    def missing(self, keys: Iterable[str], *, cold: bool = False) -> list[str]:
        """Returns the keys that are to be measured, each once."""
        found = []
        for key in dict.fromkeys(keys):
            cost = self._ops.get(key)
            is_half = cold and cost is not None and cost.us and cost.cold_us is None
            if cost is None or is_half:
                found.append(key)
        return found

    def put(self, costs: Mapping[str, OpCost]) -> None:
        """Adds costs; `save` keeps them."""
        self._ops.update(costs)

    def save(self) -> None:
        """Writes the table, whole; what another process added meanwhile stays."""
        content = _read(self.path, self.device)
        others = content["ops"] if content is not None else {}
        own = {key: dataclasses.asdict(cost) for key, cost in self._ops.items()}
        files.write_json(
            self.path,
            {
                "schema_version": SCHEMA_VERSION,
                "device": self.device.identity,
                "peaks": self.peaks,
                "ops": {**others, **own},
            },
        )


def _folder() -> Path:
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(chosen).absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache).absolute() / "tfslim" / "costs"


def _read(path: Path, device: Device) -> dict[str, Any] | None:
    """Reads a table; None if there is none, or one of another version or device."""
    try:
        content = json.loads(files.read_text(path))
        fits = content["schema_version"] == SCHEMA_VERSION
        fits = fits and content["device"] == device.identity
        for cost in content["ops"].values():
            OpCost(**cost)
        dict(content["peaks"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return content if fits else None


def read_file(path: Path | str) -> CostTable:
    """Opens the table of any device, as measured there or over adb.

    Raises:
        ConfigError: it is no table of this version.
    """
    path = Path(path)
    try:
        content = json.loads(files.read_given(path, "The cost table"))
        identity = dict(content["device"])
        identity["features"] = tuple(identity["features"])
        device = Device(**identity)
        is_table = _read(path, device) is not None
    except (ValueError, KeyError, TypeError) as error:
        raise _no_table(path) from error
    if not is_table:
        raise _no_table(path)
    table = CostTable(device, path.parent)
    if table.path != path.absolute() and not len(table):
        table.path = path
        copied = _read(path, device) or {}
        table.peaks = dict(copied["peaks"])
        table.put({k: OpCost(**v) for k, v in copied["ops"].items()})
    return table


def _no_table(path: Path) -> errors.ConfigError:
    return errors.ConfigError(
        f"'{path}' is no cost table of schema {SCHEMA_VERSION}. Measure anew with: "
        "tfslim analyze MODEL, or tfslim quantize MODEL --costs=measure."
    )
