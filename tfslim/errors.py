"""Errors that tfslim raises on purpose: one line each, with the way to mend it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator

from tfslim import escape


class TfslimError(Exception):
    """A job failed for a reason the user can read and act on.

    The message says what was passed, what was expected and how to mend it.
    `exit_code` is what a command line ends with: 1 for a failed job.
    """

    exit_code = 1
    # AutoGraph looks for it: else it puts pages of traced code before the message.
    ag_pass_through = True


class ConfigError(TfslimError, ValueError):
    """The user asked for something that does not exist or cannot be: exit code 2."""

    exit_code = 2


class TfslimWarning(UserWarning):
    """What was asked for is done, and is hardly what was meant."""


class MissingExtraError(ConfigError):
    """A package of an optional extra is not installed."""

    def __init__(self, package: str, *, extra: str, needed_for: str):
        """Names the missing package and the one command that installs it."""
        super().__init__(
            f"{needed_for} needs the package '{package}', which is not installed. "
            f"Install it with: pip install 'tfslim[{extra}]'"
        )


# What the extra `tensorflow` brings.
_TENSORFLOW = (
    "keras",
    "tensorboard",
    "tensorflow",
    "tensorflow_datasets",
    "tensorflow_model_optimization",
    "tf_keras",
)


@contextlib.contextmanager
def extra_needed(needed_for: str) -> Iterator[None]:
    """Names the extra to install where a package of `tfslim[tensorflow]` is missing.

    Raises:
        MissingExtraError: in place of ModuleNotFoundError.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _TENSORFLOW:
            raise
        raise MissingExtraError(
            package, extra="tensorflow", needed_for=needed_for
        ) from error


class DataError(TfslimError):
    """A dataset or one of its files cannot be had or read."""


class GraphError(TfslimError):
    """A model cannot be read into, or written from, the layer graph."""


class TrainingError(TfslimError):
    """A training does not lead to a model, as where its loss is not a number."""


class ConversionError(TfslimError):
    """A model cannot be converted to `.tflite` as asked."""


class QuantizationError(TfslimError):
    """A `.tflite` cannot be quantized as asked."""


class VerificationError(TfslimError):
    """A produced file does not do what the model it came from does."""


class BenchmarkError(TfslimError):
    """A file cannot be timed on the chosen device."""


# What to do with a file that is not as it was written.
AGAIN = "Save or copy it again."
# Keras puts the cause behind these words, once a level of nesting.
_CAUSES = ("Exception encountered: ", "Error encountered during deserialization: ")
_PLACES = ("Exception encountered when calling", "in user code:")
# What TensorFlow puts before an error of an operation.
_OPERATION = re.compile(r"^\{\{\w+ .*?\}\} ")
_COLORS = re.compile(r"\x1b\[[0-9;]*m")
_MAX_LENGTH = 200


@contextlib.contextmanager
def raised_as(kind: type[TfslimError], message: Callable[[str], str]) -> Iterator[None]:
    """Turns what others raise within it into an error of ours, in one line.

    Args:
        kind: of the error. One that is ours already passes as it is.
        message: from the cause, a sentence with its full stop, to the error's text.
    """
    try:
        yield
    except TfslimError:
        raise
    except Exception as error:
        raise kind(message(first_line(error))) from error


def first_line(error: BaseException) -> str:
    """Returns the cause of someone else's error in one line, a full stop at its end."""
    text = str(error)
    for mark in _CAUSES:
        text = text.rpartition(mark)[2]
    lines = [line.strip() for line in _COLORS.sub("", text).splitlines()]
    lines = [line for line in lines if line and not line.startswith(_PLACES)]
    if "in user code:" in text:
        # Pages of traced code, and the error at their end, as Python shows it.
        named = [line for line in lines if re.match(r"\w+(Error|Exception): ", line)]
        lines = named[-1:] or lines
    while len(lines) > 1 and lines[0].endswith(":"):
        del lines[0]  # A heading.
    line = escape.terminal(_OPERATION.sub("", lines[0])) if lines else ""
    line = line or type(error).__name__
    if len(line) > _MAX_LENGTH:
        line = f"{line[:_MAX_LENGTH]}…"
    return f"{line.rstrip('.')}."
