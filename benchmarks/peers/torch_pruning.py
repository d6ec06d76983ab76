"""Structured pruning: tfslim against torch-pruning, in speed and in what they choose.

Speed: both sides start from a built network with random weights (224x224, 1000
classes) and end with half of the channels of every group gone, by the L1 norm. Theirs
is the dependency graph (which runs the network on an example), the scores and the cut
in place; ours is reading the Keras model, grouping, scoring, cutting and, for the
second figure, building the smaller Keras model, which theirs needs not. The sides take
turns within a round; their example image is 224x224 as in their README, and 64x64, for
which tracing costs least. The first round warms up; ratios are taken within a round,
which sees one state of the machine, and their median is reported.

Choice: one ResNet-18 with equal weights on both sides and, for taylor, equal gradients;
the channels that each criterion keeps of each group.

See README.md for how to run it. Goals: at most half of their time without the rebuild,
at most equal with it, equal parameter counts, equal choices.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
import tf_keras
import torch
import torch_pruning as peer

import tfslim
from benchmarks import record
from benchmarks.peers.torch_networks import NETWORKS
from tfslim.graph import ir
from tfslim.graph import keras as graph_keras
from tfslim.pruning import budget, channels, scores, surgery

OURS = {
    "resnet18": lambda: tfslim.build_model("resnet18"),
    "mobilenet_v2": lambda: tfslim.build_model("mobilenet_v2"),
    "densenet121": lambda: tf_keras.applications.DenseNet121(weights=None),
}
# torch-pruning rounds down where it rounds; without rounding the counts are equal.
HALF = budget.Budget(pruning_ratio=0.5, divisor=1)


def by_peer(network, size: int) -> tuple[dict[str, float], int]:
    """Prunes a copy; returns seconds by step and the parameters left."""
    network = copy.deepcopy(network)
    start = time.perf_counter()
    pruner = peer.pruner.BasePruner(
        network,
        torch.zeros(1, 3, size, size),
        peer.importance.GroupMagnitudeImportance(p=1),
        pruning_ratio=0.5,
        ignored_layers=[network[-1]],
    )
    grouped = time.perf_counter()
    pruner.step()
    done = time.perf_counter()
    seconds = {"group": grouped - start, "cut": done - grouped, "all": done - start}
    return seconds, sum(weight.numel() for weight in network.parameters())


def by_tfslim(model) -> tuple[dict[str, float], int]:
    """Prunes; returns seconds by step and the trainable parameters left."""
    start = time.perf_counter()
    graph = graph_keras.read(model)
    groups = channels.analyze(graph)
    grouped = time.perf_counter()
    found = scores.score_channels(groups, scores.Scoring(criterion="l1_norm"))
    keep = budget.plan(groups, found, budget=HALF)
    smaller, report = surgery.cut_channels(graph, keep, channels=groups)
    cut = time.perf_counter()
    graph_keras.write(smaller, graph_keras.keras_of(model))
    done = time.perf_counter()
    seconds = {
        "group": grouped - start,
        "cut": cut - grouped,
        "all": cut - start,
        "with_rebuild": done - start,
    }
    return seconds, report.after.trainable_params


SIDES: dict[str, Callable] = {
    "torch_pruning": lambda network, models: by_peer(network, 224),
    "torch_pruning_64": lambda network, models: by_peer(network, 64),
    "tfslim_tf_keras": lambda network, models: by_tfslim(models["tf_keras"]),
    "tfslim_keras3": lambda network, models: by_tfslim(models["keras3"]),
}


def speed(rounds: int) -> list[dict[str, object]]:
    rows = []
    for name, build in NETWORKS.items():
        network = build().eval()
        model = OURS[name]()
        models = {"tf_keras": model, "keras3": graph_keras.to_keras3(model)}
        runs: dict[str, list] = {side: [] for side in SIDES}
        params = {}
        for _ in range(rounds + 1):
            for side, run in SIDES.items():
                seconds, params[side] = run(network, models)
                runs[side].append(seconds)
        runs = {side: seconds[1:] for side, seconds in runs.items()}
        rows.append({"network": name, "params": params, **_summary(runs)})
        print(json.dumps(rows[-1], indent=1))
    return rows


def _summary(runs: dict[str, list[dict[str, float]]]) -> dict[str, object]:
    """Returns the least seconds by side and step, and ratios within rounds."""
    seconds = {
        side: {step: round(min(r[step] for r in found), 4) for step in found[0]}
        for side, found in runs.items()
    }
    ratios = {
        f"{ours}.{step}/{theirs}": round(
            statistics.median(
                mine[step] / other["all"]
                for mine, other in zip(runs[ours], runs[theirs], strict=True)
            ),
            3,
        )
        for ours in ("tfslim_tf_keras", "tfslim_keras3")
        for step in ("all", "with_rebuild")
        for theirs in ("torch_pruning", "torch_pruning_64")
    }
    return {"least_seconds": seconds, "median_ratios": ratios}


def resnet18_names(network) -> dict[str, torch.nn.Module]:
    """Returns the PyTorch modules by the names of our Keras layers."""
    names = {"conv1": network[0][0], "bn1": network[0][1], "fc": network[-1]}
    for index, block in enumerate(network[2:10]):
        prefix = f"layer{index // 2 + 1}_{index % 2}"
        parts = {"1": block.first, "2": block.second}
        for number, part in parts.items():
            names[f"{prefix}_conv{number}"] = part[0]
            names[f"{prefix}_bn{number}"] = part[1]
        if not isinstance(block.shortcut, torch.nn.Identity):
            names[f"{prefix}_downsample_0"] = block.shortcut[0]
            names[f"{prefix}_downsample_1"] = block.shortcut[1]
    return names


def _as_keras(array: torch.Tensor) -> np.ndarray:
    """Returns a PyTorch weight or gradient in the order of Keras."""
    array = array.detach().numpy()
    orders = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
    return np.ascontiguousarray(array.transpose(orders[array.ndim]))


def equal_networks() -> tuple[torch.nn.Module, dict, ir.Graph, scores.BatchStatistics]:
    """Returns their network, its modules by our names, ours, and the gradients."""
    torch.manual_seed(0)
    network = NETWORKS["resnet18"]()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight, 1.0, 0.5)
    network.eval()
    logits = network(torch.randn(4, 3, 64, 64))
    torch.nn.functional.cross_entropy(logits, torch.tensor([1, 2, 3, 4])).backward()
    names = resnet18_names(network)
    graph = graph_keras.read(OURS["resnet18"]())
    changed, gradients = {}, {}
    for name, module in names.items():
        layer = graph.layers[name]
        first = "gamma" if isinstance(module, torch.nn.BatchNorm2d) else "kernel"
        weights = {**layer.weights, first: _as_keras(module.weight)}
        changed[name] = dataclasses.replace(layer, weights=weights)
        gradients[name] = {first: {"gradient": _as_keras(module.weight.grad)}}
    graph = graph.with_layers(changed)
    return network, names, graph, scores.BatchStatistics(weights=gradients)


def makers_first(group, modules) -> peer.dependency.Group:
    """Returns their group without what only passes or takes in its channels.

    Their own importance also counts those: which members speak is a choice of each
    side, what a member says must be the same.
    """
    makers = [peer.prune_conv_out_channels, peer.prune_linear_out_channels]
    items = {
        item.dep.target.module: item for item in group if item.dep.handler in makers
    }
    kept = peer.dependency.Group()
    kept._group = [items[module] for module in modules]
    kept._DG = group._DG
    return kept


CRITERIA: dict[str, tuple[Callable, str]] = {
    "l1_norm": (lambda **o: peer.importance.GroupMagnitudeImportance(p=1, **o), "mean"),
    # Theirs is the squared norm: the same order in a layer, another mean over layers.
    "l2_norm": (
        lambda **o: peer.importance.GroupMagnitudeImportance(p=2, **o),
        "first",
    ),
    "bn_scale": (peer.importance.BNScaleImportance, "mean"),
    "taylor": (
        lambda **o: peer.importance.GroupTaylorImportance(multivariable=True, **o),
        "mean",
    ),
}


def choices() -> list[dict[str, object]]:
    network, names, graph, evidence = equal_networks()
    groups = channels.analyze(graph)
    dependencies = peer.DependencyGraph().build_dependency(
        network, torch.zeros(1, 3, 64, 64)
    )
    our_names = {module: name for name, module in names.items()}
    theirs = list(dependencies.get_all_groups(ignored_layers=[network[-1]]))
    rows = []
    for criterion, (build, reduction) in CRITERIA.items():
        importance = build(group_reduction=reduction, normalizer=None)
        scoring = scores.Scoring(
            criterion=criterion,
            statistics=[evidence],
            reduction=reduction,
            normalization="none",
        )
        found = scores.score_channels(groups, scoring)
        keep = budget.plan(groups, found, budget=HALF)
        equal = different = 0
        for group in theirs:
            root = our_names[group[0].dep.target.module]
            ours = next(g for g in groups.groups if root in g.producers)
            if criterion != "bn_scale":
                group = makers_first(group, [names[maker] for maker in ours.makers])
            ranked = torch.argsort(importance(group), descending=True)
            chosen = set(ranked[: len(ours) // 2].tolist())
            same = len(chosen & set(np.flatnonzero(keep[ours.name])))
            equal += same
            different += len(chosen) - same
        rows.append(
            {
                "criterion": criterion,
                "reduction": reduction,
                "groups_theirs": len(theirs),
                "groups_ours": len(groups.groups),
                "channels_chosen_by_both": equal,
                "channels_chosen_by_one": different,
            }
        )
        print(rows[-1])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    # More threads make many small operations slower, most of all on a shared machine.
    parser.add_argument("--torch_threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.torch_threads)
    conditions = {name: version(name) for name in ("torch", "torch-pruning")}
    record.save("torch_pruning_choices", choices(), **conditions)
    record.save("torch_pruning_speed", speed(args.rounds), **conditions, **vars(args))


if __name__ == "__main__":
    main()
