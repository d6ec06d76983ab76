"""Several processes that train one model: who writes, and what all must agree on."""

from __future__ import annotations

import json
import os
import re
import socket
import time

import numpy as np
import tensorflow as tf

from tfslim import errors

_VARIABLE = "TF_CONFIG"
_EXAMPLE = (
    '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, '
    '"task": {"type": "worker", "index": 0}}'
)
_POLL_SECONDS = 0.5


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Tells whether this process writes the files."""
    return bool(strategy.extended.should_checkpoint)


def num_workers(strategy: tf.distribute.Strategy) -> int:
    """Returns the number of processes that train together."""
    resolver = strategy.cluster_resolver
    if resolver is None:
        return 1
    return max(1, sum(map(len, resolver.cluster_spec().as_dict().values())))


def from_chief(strategy: tf.distribute.Strategy, data: bytes) -> bytes:
    """Returns the chief's `data` on every worker; all of them must call this.

    It needs no folder that the machines share.
    """
    if num_workers(strategy) == 1:
        return data
    payload = np.frombuffer(data + b"\0" * (-len(data) % 8), np.int64)
    if not is_chief(strategy):
        payload = np.zeros(0, np.int64)
    words, size = (int(n) for n in _sum(strategy, np.array([len(payload), len(data)])))
    if not is_chief(strategy):
        payload = np.zeros(words, np.int64)
    if not words:
        return b""
    return bytes(_sum(strategy, payload).tobytes()[:size])


def _sum(strategy: tf.distribute.Strategy, values: np.ndarray) -> np.ndarray:
    # Only the chief's values count: zeros from the others make a sum a copy.
    own = values if is_chief(strategy) else np.zeros_like(values)
    total = strategy.reduce(tf.distribute.ReduceOp.SUM, tf.constant(own), axis=None)
    return np.asarray(total).reshape(values.shape)


def await_peers(timeout_s: float) -> None:
    """Waits until every worker that TF_CONFIG names can be reached.

    TensorFlow itself waits for a missing worker for ever and in silence. This process
    listens at its own address meanwhile, so that the others find it.

    Args:
        timeout_s: how long to wait, in seconds.

    Raises:
        ConfigError: TF_CONFIG is wrong, or a worker did not answer in time.
    """
    found = _addresses()
    if found is None:
        return
    own, missing = found
    deadline = time.monotonic() + timeout_s
    with _listening(own):
        while missing := [peer for peer in missing if not _answers(peer)]:
            if time.monotonic() > deadline:
                raise errors.ConfigError(
                    f"No answer from {', '.join(missing)} within {timeout_s:g} s. "
                    f"Start the same command on every machine that {_VARIABLE} names, "
                    "and let its port through the firewall."
                )
            time.sleep(_POLL_SECONDS)


def _addresses() -> tuple[str, list[str]] | None:
    """Returns this worker's address and those of the others; None if it is alone."""
    text = os.environ.get(_VARIABLE)
    if not text:
        return None
    try:
        config = json.loads(text)
        cluster: dict[str, list[str]] = config.get("cluster") or {}
        if sum(map(len, cluster.values())) < 2:
            return None
        task = config["task"]
        own = cluster[task["type"]][int(task["index"])]
        for address in (a for group in cluster.values() for a in group):
            _split(address)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise errors.ConfigError(
            f"{_VARIABLE} is {text!r}, which cannot be read "
            f"({type(error).__name__}: {error}). Expected such as {_EXAMPLE}."
        ) from error
    others = [a for group in cluster.values() for a in group]
    others.remove(own)
    return own, others


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _listening(address: str) -> socket.socket:
    port = _split(address)[1]
    try:
        return socket.create_server(("", port), backlog=64)
    except OSError as error:
        raise errors.ConfigError(
            f"Port {port} of this worker ({address} in {_VARIABLE}) cannot be opened: "
            f"{error.strerror}. Another process may hold it; choose another port."
        ) from error


def _answers(address: str) -> bool:
    try:
        socket.create_connection(_split(address), timeout=2).close()
    except OSError:
        return False
    return True


def lost(error: tf.errors.OpError) -> errors.TfslimError | None:
    """Returns what to tell the user of a worker that died; None for other errors."""
    # The others see either the end of the connection or TensorFlow's own abort.
    if not isinstance(error, tf.errors.UnavailableError | tf.errors.AbortedError):
        return None
    found = set(re.findall(r"/job:(\w+)/(?:replica:\d+/)?task:(\d+)", str(error)))
    names = ", ".join(f"{job} {index}" for job, index in sorted(found))
    return errors.TfslimError(
        f"The training stopped because {names or 'another worker'} of {_VARIABLE} "
        "stopped answering. Start all workers again; with backup_dir they resume from "
        "the last epoch."
    )
