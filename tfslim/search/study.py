"""Trials that several processes share and that survive a kill: an Optuna study.

What is trained and measured is a trial in the study's database, SQLite by default. A
process takes the next trial that waits; one that died in the middle leaves a trial
whose heartbeat stops, and another process takes it up again.
"""

from __future__ import annotations

import contextlib
import functools
import json
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tfslim import errors, files

OnStep = Callable[[str], None]

_HEARTBEAT_SECS = 2
_GRACE_SECS = 10
_RETRIES = 3
_POLL_SECS = 0.5
_CANDIDATE = "candidate"
# A trial needs a parameter; the candidate itself is an attribute beside it.
_NUMBER, _MOST_NUMBER = "number", 2**32 - 1


def require() -> Any:
    """Returns the module optuna.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise errors.MissingExtraError(
            "optuna", extra="search", needed_for="tfslim optimize"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


class Study:
    """The trials of one search, named by what they try.

    Attributes:
        url: of the database, as SQLAlchemy writes it.
    """

    def __init__(self, url: str, name: str = "tfslim"):
        """Opens the study, or makes it.

        Raises:
            ConfigError: Optuna is not installed, or there is no such database.
        """
        optuna = require()
        self.url = url
        try:
            with _quiet():
                storage = optuna.storages.RDBStorage(
                    url,
                    heartbeat_interval=_HEARTBEAT_SECS,
                    grace_period=_GRACE_SECS,
                    engine_kwargs=_engine(url),
                    **_retry(optuna),
                )
                self._study = optuna.create_study(
                    storage=storage,
                    study_name=name,
                    directions=["maximize", "minimize"],
                    sampler=optuna.samplers.RandomSampler(seed=0),
                    load_if_exists=True,
                )
        except Exception as error:
            # SQLAlchemy and the drivers behind it have exceptions of their own.
            reason = " ".join(str(error).split())[:200]
            raise errors.ConfigError(
                f"The study '{url}' cannot be opened: {reason}"
            ) from error
        self._optuna = optuna

    def add(self, candidates: Sequence[Mapping[str, Any]]) -> None:
        """Lets candidates wait for a process; those that are known are left out.

        Args:
            candidates: plain JSON, with a "name" of their own.
        """
        for candidate in candidates:
            self._study.enqueue_trial(
                {_NUMBER: _number(candidate["name"])},
                user_attrs={_CANDIDATE: json.dumps(candidate)},
                skip_if_exists=True,
            )

    def run(
        self,
        evaluate: Callable[[dict[str, Any]], tuple[float, float, dict[str, Any]]],
        *,
        on_step: OnStep = lambda text: None,
    ) -> None:
        """Evaluates what waits, until nothing waits and nobody works any more.

        Args:
            evaluate: candidate -> its quality, latency and what else is kept of it.
                An error of tfslim's is kept as the trial's failure.
            on_step: called with a line after each trial, with the best so far.
        """
        while True:
            with _turn(self.url), _quiet():
                self._optuna.storages.fail_stale_trials(self._study)
            waiting, running = self._open()
            if not waiting and not running:
                return
            if not waiting:
                time.sleep(_POLL_SECS)
                continue
            with contextlib.ExitStack() as turn, _quiet():
                turn.enter_context(_turn(self.url))
                self._study.optimize(
                    functools.partial(self._evaluate, evaluate=evaluate, turn=turn),
                    n_trials=1,
                    catch=(errors.TfslimError,),
                )
            on_step(self._progress())

    def results(self) -> list[dict[str, Any]]:
        """Returns a row for each finished trial: candidate, values, what was kept."""
        done = self._optuna.trial.TrialState.COMPLETE
        rows = [
            {
                "candidate": json.loads(trial.user_attrs[_CANDIDATE]),
                "quality": trial.values[0],
                "latency_us": trial.values[1],
                "number": trial.number,
                **json.loads(trial.user_attrs["result"]),
            }
            for trial in self._study.get_trials(states=(done,))
            if _CANDIDATE in trial.user_attrs
        ]
        by_name = {row["candidate"]["name"]: row for row in reversed(rows)}
        return sorted(by_name.values(), key=lambda row: row["number"])

    def failures(self) -> dict[str, str]:
        """Returns the candidates that failed, with the reason."""
        found = {}
        failed = self._optuna.trial.TrialState.FAIL
        for trial in self._study.get_trials(states=(failed,)):
            reason = trial.user_attrs.get("reason")
            if reason and _CANDIDATE in trial.user_attrs:
                found[json.loads(trial.user_attrs[_CANDIDATE])["name"]] = reason
        return found

    def _open(self) -> tuple[int, int]:
        """Returns how many trials wait and how many run."""
        state = self._optuna.trial.TrialState
        trials = self._study.get_trials(
            deepcopy=False, states=(state.WAITING, state.RUNNING)
        )
        waiting = sum(trial.state == state.WAITING for trial in trials)
        return waiting, len(trials) - waiting

    def _evaluate(
        self,
        trial: Any,
        *,
        evaluate: Callable[[dict[str, Any]], tuple[float, float, dict[str, Any]]],
        turn: contextlib.ExitStack,
    ) -> tuple[float, float]:
        turn.close()  # The trial is taken: others may take theirs.
        text = trial.user_attrs.get(_CANDIDATE)
        if text is None:
            # Another process took the last one that waited in between.
            raise self._optuna.TrialPruned
        candidate = json.loads(text)
        trial.suggest_int(_NUMBER, 0, _MOST_NUMBER)
        try:
            quality, latency_us, kept = evaluate(candidate)
        except errors.TfslimError as error:
            trial.set_user_attr("reason", str(error))
            raise
        trial.set_user_attr("result", json.dumps(kept))
        return quality, latency_us

    def _progress(self) -> str:
        rows = self.results()
        waiting, running = self._open()
        if not rows:
            return f"{waiting} trials wait, {running} run"
        best = max(rows, key=lambda row: row["quality"])
        return (
            f"{len(rows)} trials done, {waiting} wait, {running} run; best "
            f"{best['quality']:.4f} at {best['latency_us'] / 1e3:.3f} ms "
            f"({best['candidate']['name']})"
        )


@contextlib.contextmanager
def _turn(url: str) -> Iterator[None]:
    """Lets one process at a time take a trial.

    SQLite has no locks of rows: two that ask in the same moment get the same trial.
    """
    path = url.partition(":///")[2].partition("?")[0]
    if not url.startswith("sqlite") or not path:
        yield
        return
    # Not the database itself: closing it would drop SQLite's own locks.
    with files.locked(f"{path}.turn"):
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Heartbeats are experimental in Optuna, and were renamed in 4.9: it says so."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"(optuna|tfslim\.search)")
        warnings.filterwarnings("ignore", message=".*(experimental|deprecated)")
        yield


def _retry(optuna: Any) -> dict[str, Any]:
    """Returns what puts a trial back whose process died; both names are Optuna's."""
    storages = optuna.storages
    kind = getattr(storages, "RetryHeartbeatStaleTrialCallback", None)
    if kind is not None:
        return {"heartbeat_stale_trial_callback": kind(max_retry=_RETRIES)}
    old = storages.RetryFailedTrialCallback(max_retry=_RETRIES)
    return {"failed_trial_callback": old}


def _number(name: str) -> int:
    return zlib.crc32(name.encode())


def _engine(url: str) -> dict[str, Any]:
    # Processes wait for each other's writes.
    return {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}


def sqlite_url(path: Any) -> str:
    """Returns the URL of a database file."""
    return f"sqlite:///{path}"
