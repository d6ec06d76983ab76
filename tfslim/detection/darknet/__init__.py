"""Darknet's own files: the network in a `.cfg`, its numbers in a `.weights`.

Reading and writing them needs numpy only; a Keras model is built, or read, through
the layer graph.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfslim import checks, errors, files
from tfslim.detection.darknet import cfg as cfg_lib
from tfslim.detection.darknet import sections
from tfslim.detection.darknet import weights as weights_lib
from tfslim.detection.darknet.classes import change_classes
from tfslim.detection.darknet.from_graph import from_graph
from tfslim.detection.darknet.network import Network
from tfslim.detection.darknet.to_graph import to_graph
from tfslim.detection.heads import Head
from tfslim.graph import ir
from tfslim.graph import keras as graph_keras

__all__ = ["Darknet", "load_darknet", "read_darknet", "read_heads", "save_darknet"]

_NEW = weights_lib.Header()


@dataclasses.dataclass(frozen=True, eq=False)
class Darknet:
    """A network with its weights, as Darknet's two files hold it.

    Attributes:
        network: layers, shapes and heads.
        weights: of its convolutions, in order.
        header: of the `.weights`.
    """

    network: Network
    weights: tuple[weights_lib.ConvWeights, ...]
    header: weights_lib.Header = _NEW

    @property
    def heads(self) -> tuple[Head, ...]:
        """What the outputs mean, in order."""
        return self.network.heads

    def to_graph(self, name: str = "darknet") -> ir.Graph:
        """Returns the layer graph; its outputs are the maps before each `[yolo]`."""
        return to_graph(self.network, self.weights, name=name)

    @classmethod
    def from_graph(
        cls,
        graph: ir.Graph,
        heads: Sequence[Head],
        header: weights_lib.Header = _NEW,
    ) -> Darknet:
        """Builds Darknet's form of a YOLO graph, whole or with channels removed.

        Raises:
            GraphError: a layer has no section in Darknet, or a head does not fit.
        """
        network, arrays = from_graph(graph, heads)
        return cls(network, arrays, header)

    def with_classes(self, num_classes: int, seed: int = 0) -> Darknet:
        """Returns the network for other classes, to be trained on.

        What it knows of boxes and objectness stays; the classes begin at random.

        Raises:
            GraphError: what stands before a `[yolo]` is no plain convolution.
        """
        network, arrays = change_classes(
            self.network, self.weights, num_classes=num_classes, seed=seed
        )
        return Darknet(network, arrays, self.header)

    def cfg(self) -> str:
        """Returns the text of the `.cfg`."""
        return cfg_lib.dump(sections.describe(self.network))

    def weights_bytes(self) -> bytes:
        """Returns the bytes of the `.weights`."""
        return weights_lib.encode(self.header, self.weights)


def read_darknet(
    cfg: Path | str, weights_file: Path | str | None = None, *, seed: int = 0
) -> Darknet:
    """Reads a `.cfg` and its `.weights`.

    Args:
        cfg: path of the `.cfg`; its sections may be convolutional, shortcut, route,
            upsample, maxpool and yolo.
        weights_file: path of the `.weights`; None: random weights, to be trained.
        seed: of the random weights.

    Raises:
        ConfigError: a file does not exist.
        GraphError: a section or option is unknown, or the files do not fit together.
    """
    network = _read_network(cfg)
    if weights_file is None:
        return Darknet(network, weights_lib.random(network, seed))
    data = files.read_given(weights_file, "The .weights")
    try:
        header, arrays = weights_lib.decode(data, network)
    except errors.GraphError as error:
        raise errors.GraphError(f"{weights_file}: {error}") from error
    return Darknet(network, arrays, header)


def read_heads(cfg: Path | str) -> tuple[Head, ...]:
    """Returns what the outputs of a `.cfg`'s network mean.

    Raises:
        ConfigError: there is no such file.
        GraphError: a section or option is unknown.
    """
    return _read_network(cfg).heads


def _read_network(cfg: Path | str) -> Network:
    text = files.read_given(cfg, "The .cfg").decode("utf-8", "replace")
    try:
        return sections.build(cfg_lib.parse(text))
    except errors.GraphError as error:
        raise errors.GraphError(f"{cfg}: {error}") from error


def load_darknet(
    cfg: Path | str,
    weights_file: Path | str | None = None,
    *,
    num_classes: int | None = None,
    keras: graph_keras.KerasName = "tf_keras",
) -> tuple[Any, tuple[Head, ...]]:
    """Builds the Keras model of a `.cfg`, with the weights of a `.weights`.

    Args:
        cfg: as for `read_darknet`.
        weights_file: as for `read_darknet`.
        num_classes: classes to be trained for, if others than those of the `.cfg`; see
            `Darknet.with_classes`.
        keras: `tf_keras` or `keras` (Keras 3).

    Returns:
        A plain functional model from RGB in 0..1 to the raw maps, in the order of the
        `[yolo]` sections, and the heads that say what they mean.

    Example:
        model, heads = load_darknet("yolov3.cfg", "yolov3.weights")
    """
    found = read_darknet(cfg, weights_file)
    if num_classes is not None:
        found = found.with_classes(num_classes)
    graph = found.to_graph(Path(cfg).stem.replace("-", "_"))
    return graph_keras.write(graph, keras), found.heads


@checks.by_name
def save_darknet(
    model: Any, heads: Sequence[Head], *, cfg: Path | str, weights_file: Path | str
) -> Darknet:
    """Writes a YOLO model, whole or with channels removed, as Darknet's two files.

    Args:
        model: of tf_keras or Keras 3, or a layer graph; its outputs are raw maps.
        heads: what they mean, in their order.
        cfg: path of the `.cfg` to write; training options are Darknet's defaults.
        weights_file: path of the `.weights` to write.

    Raises:
        GraphError: a layer has no section in Darknet, or a head does not fit.
    """
    graph = model if isinstance(model, ir.Graph) else graph_keras.read(model)
    found = Darknet.from_graph(graph, heads)
    files.write_bytes(weights_file, found.weights_bytes())
    files.write_text(cfg, found.cfg())
    return found
