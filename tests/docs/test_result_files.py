"""Every committed result keeps its schema, and the docs say what the results say."""

import json
import math
import re
import shlex
import statistics
from pathlib import Path

import numpy as np
import pytest

from benchmarks import record

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
FILES = sorted(RESULTS.rglob("*.json"))
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
# Made before `record.save` wrote the command; what is made anew has it.
WITHOUT_COMMAND = {
    *("agreement_cifar10_12k", "agreement_digits", "cifar_pruning_resnet56"),
    *("collection_cost", "consumers", "digits_training_methods", "export_latency"),
    *("export_speed", "faults", "harness_overhead", "import_time"),
    *("onnxruntime_calibration_alexnet", "onnxruntime_calibration_mobilenet_v2"),
    *("paper_001_small_yolo", "paper_001_yolov3", "quantization"),
    *("recovery_digits", "sparsity", "torch_pruning_choices", "torch_pruning_speed"),
    *("coverage_wild_keras", "verdict"),
}


def _name(path):
    return path.relative_to(RESULTS).with_suffix("").as_posix()


def _numbers(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _numbers(one)
    elif isinstance(value, float):
        yield value


def _accuracies(value, key=""):
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _accuracies(one, name)
    elif isinstance(value, list):
        for one in value:
            yield from _accuracies(one, key)
    elif key.startswith("accuracy") and isinstance(value, float):
        yield value


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_a_result_says_how_it_was_made(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["name"] == _name(path)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", content["date"])
    assert re.match(r"[0-9a-f]{7}", content["commit"])
    machine = content["machine"]
    assert machine["cpu"]
    assert machine["cores"] >= 1
    assert isinstance(machine["load_average"], float)
    assert {"numpy", "tensorflow", "tf_keras"} <= set(machine["versions"])
    assert all(machine["versions"].values())
    assert isinstance(content["conditions"], dict)
    assert content["rows"]
    if _name(path) not in WITHOUT_COMMAND:
        assert shlex.split(content["command"])[:2] == ["python", "-m"]


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_figures_are_figures(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    assert all(map(math.isfinite, _numbers(content["rows"])))
    assert all(0.0 <= value <= 1.0 for value in _accuracies(content["rows"]))


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_what_is_random_says_its_seeds(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    rows = content["rows"]
    runs = rows.get("runs", []) if isinstance(rows, dict) else rows
    if any("accuracy_fine_tuned" in row or "metric_fine_tuned" in row for row in runs):
        assert len({row["seed"] for row in runs}) >= 3


def test_no_name_is_excused_that_is_not_there():
    assert {_name(path) for path in FILES} >= WITHOUT_COMMAND


def test_the_command_is_the_one_that_runs():
    # Under pytest there is a module or a script; either can be typed again.
    assert shlex.split(record.command())[0] == "python"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_cited_results_exist(page):
    cited = set(re.findall(r"benchmarks/results/([\w/]+\.json)", page.read_text()))
    missing = {name for name in cited if not (RESULTS / name).is_file()}
    assert not missing, f"{page.name} cites {sorted(missing)}"


def _table(page, cited, number=0):
    """Returns the cells of the first table behind a citation, one of several."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    places = list(re.finditer(re.escape(f"benchmarks/results/{cited}.json"), text))
    lines = text[places[number].start() :].splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("|"))
    rows = []
    for line in lines[first:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return rows[2:]


def _rows(name):
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))["rows"]


def test_criteria_against_chance():
    means = _rows("cifar_pruning_resnet56")["mean_accuracy"]
    table = dict(_table("pruning.md", "cifar_pruning_resnet56"))
    assert table == {name: f"{mean:.1%}" for name, mean in means.items()}


def _percents(values):
    return ", ".join(f"{100 * value:.1f}" for value in values) + "%"


def test_half_of_the_channels_and_back():
    kinds = {"ResNet-18": "resnet18", "MobileNetV2": "mobilenet_v2"}
    for label, before, _, after in _table("pruning.md", "recovery_digits"):
        kind = kinds.get(label.split(",")[0], "autoencoder")
        rows = [row for row in _rows("recovery_digits") if row["model"] == kind]
        old = [row["metric_before"] for row in rows]
        new = [row["metric_fine_tuned"] for row in rows]
        if kind == "autoencoder":
            assert before == ", ".join(f"{value:.3f}" for value in old)
            assert after == ", ".join(f"{value:.3f}" for value in new)
        else:
            assert before == _percents(old)
            assert after == _percents(new)


def test_methods_that_train_sparse():
    networks = {"ResNet-18": "resnet18", "VGG16": "vgg16"}
    methods = {"(before)": "base", "random channels": "random"}
    methods |= {
        "slimming": "slimming",
        "Prox-SG": "prox_sg",
        "activation counts": "activation",
    }
    found = _rows("digits_training_methods")
    for network, method, seeds, mean, *_ in _table(
        "slimming.md", "digits_training_methods"
    ):
        values = [
            100 * row["accuracy"]
            for row in found
            if row["model"] == networks[network] and row["method"] == methods[method]
        ]
        assert seeds == " / ".join(f"{value:.1f}" for value in values)
        assert mean == f"{statistics.mean(values):.1f}"


def test_targets():
    found = [
        (
            row["model"],
            "refused"
            if row["tfslim_cpu_operators"] is None
            else str(len(row["tfslim_cpu_operators"])),
            f"{row['tfslim_db']:.1f}",
            f"{row['converter_db']:.1f}",
        )
        for row in _rows("targets")
    ]
    table = _table("targets.md", "targets")
    assert [(row[0], *row[4:]) for row in table] == found
    assert all(row["float_tensors"] == 0 for row in _rows("targets"))


@pytest.mark.skipif(
    not (RESULTS / "few_sample_resnet56.json").is_file(), reason="not measured yet"
)
def test_few_samples():
    found = [
        (row["images"] == "data", f"{row['ridge']:g}", f"{row['accuracy_mean']:.1%}")
        for row in _rows("few_sample_resnet56")["table"]
    ]
    table = _table("pruning.md", "few_sample_resnet56")
    assert [(images != "none", *rest) for images, *rest in table] == found


def _error_cells(rows):
    errors = np.abs([row["error"] for row in rows])
    largest = max((row["error"] for row in rows), key=abs)
    ends = (np.median(errors), np.percentile(errors, 95))
    return [str(len(rows)), *(f"{value:.1%}" for value in ends), f"{largest:+.1%}"]


def test_predicted_times():
    found = _rows("costs")
    for recipe, *cells in _table("analysis.md", "costs"):
        rows = [row for row in found if recipe in ("all", row["recipe"])]
        assert cells == _error_cells(rows)


def _over_seeds(values):
    """Returns the mean, and what each seed gave where there are several."""
    text = f"{statistics.mean(values):.1%}"
    if len(values) > 1:
        text += f" ({', '.join(f'{100 * value:.1f}' for value in values)})"
    return text


@pytest.mark.parametrize(
    ("page", "part"),
    [
        ("activation_pruning", "counts"),
        ("iterative", "rounds"),
        ("distillation", "teacher"),
    ],
)
def test_methods_on_digits(page, part):
    rows = _rows("methods_digits")
    base = _percents([row["accuracy"] for row in rows if row["part"] == "base"])
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    assert f"32 x 32 x 3, {base} on 297 test images" in " ".join(text.split())
    found: dict[str, dict[float, list[float]]] = {}
    for row in rows:
        if row["part"] == part:
            by_share = found.setdefault(row["name"], {})
            by_share.setdefault(row["share"], []).append(row["accuracy"])
    shares = sorted({row["share"] for row in rows if row["part"] == part}, reverse=True)
    assert _table(f"{page}.md", "methods_digits") == [
        [name, *(_over_seeds(by_share[share]) for share in shares)]
        for name, by_share in found.items()
    ]


def _milliseconds(microseconds):
    return f"{microseconds / 1000:.{2 if microseconds < 10_000 else 1}f} ms"


def _resnet18():
    row = _rows("paper_000")["resnet18"]
    before, after = row["macs"]
    times = [_milliseconds(time) for time in row["p50_us"]]
    faster = f"{row['times_faster']:.1f}"
    macs = [f"{before / 1e9:.2f} G", f"{after / 1e9:.2f} G", f"{before / after:.1f}"]
    yield [*macs, *times, faster]


def _resnet18_trained():
    for row in _rows("papers/paper_000_resnet18"):
        files = ("whole_float", "slim_float", "slim_int8")
        ratios = ("macs_ratio", "params_ratio", "times_faster")
        accuracies = [f"{row[f'accuracy_{file}']:.1%}" for file in files]
        yield [row["scope"], *accuracies, *(f"{row[key]:.1f}" for key in ratios)]


def _alexnet():
    for row in _rows("papers/paper_001_alexnet"):
        if "pixels" in row:
            cells = [str(row["pixels"]), _milliseconds(row["float_us"])]
            for recipe in ("int8", "dynamic_int8"):
                cells.append(_milliseconds(row[f"{recipe}_us"]))
                cells.append(f"{row[f'{recipe}_times_faster']:.2f}")
            yield cells


def _alexnet_accuracies():
    for row in _rows("papers/paper_001_alexnet"):
        if "accuracy_kl" in row:
            kinds = ("float", "minmax", "kl")
            yield [f"{row[f'accuracy_{kind}']:.2%}" for kind in kinds]


def _toy():
    for row in _rows("papers/paper_002")["table"]:
        units, loss = f"{row['units_median']:g}", f"{row['loss_median']:.1e}"
        yield [row["inputs"], row["variant"], units, loss]


def _vgg16():
    for row in _rows("papers/paper_003"):
        figures = ("accuracy", "params_left", "macs_left")
        kinds = (".2%", ".1%", ".1%")
        cells = [f"{row[f]:{kind}}" for f, kind in zip(figures, kinds, strict=True)]
        yield [row["method"], *cells]


def _networks():
    for row in _rows("papers/paper_004"):
        if "network" not in row:
            continue
        names = ("accuracy_keras", "accuracy_float", "accuracy_int8")
        yield [
            row["network"],
            f"{row['params'] / 1e6:.2f} M",
            f"{row['macs'] / 1e6:.1f} M",
            *(f"{row[name]:.1%}" if name in row else "-" for name in names),
            _milliseconds(row["float_us"]),
            _milliseconds(row["int8_us"]),
        ]


def _blocks():
    for row in _rows("papers/paper_004"):
        if "block" in row:
            pixels, channels, filters = row["block"]
            names = ("theory", "float_ratio", "int8_ratio")
            ratios = [f"{row[name]:.3f}" for name in names]
            yield [f"{pixels} x {pixels}, {channels} to {filters}", *ratios]


# Result -> the tables of docs/results.md behind its citations, in order.
PAPERS = {
    "paper_000": (_resnet18,),
    "papers/paper_000_resnet18": (_resnet18_trained,),
    "papers/paper_001_alexnet": (_alexnet, _alexnet_accuracies),
    "papers/paper_002": (_toy,),
    "papers/paper_003": (_vgg16,),
    "papers/paper_004": (_networks, _blocks),
}


def _searched(row):
    """Yields the cells of a search: the baseline, its trials, its results."""
    names = {"float32": "baseline, float32", "int8": "baseline, INT8"}
    made = [{"name": n, **row["baseline"][recipe]} for recipe, n in names.items()]
    made += row["trials"]
    made += [one | {"name": f"{one['name']}, result"} for one in row["final"]]
    for one in made:
        predicted = one.get("predicted_us")
        yield [
            one["name"],
            f"{one['quality']:.1%}",
            f"{one['latency_us'] / 1e3:.3f} ms",
            f"{predicted / 1e3:.3f} ms" if predicted else "",
            f"{one['size_bytes'] / 1e3:,.0f} kB",
            f"{one['macs'] / 1e6:.1f} M",
        ]


@pytest.mark.parametrize(
    ("name", "number"), [("search", 0), ("search", 1), ("search_cifar10", 0)]
)
def test_search(name, number):
    assert _table("search.md", name, number) == list(_searched(_rows(name)[number]))


@pytest.mark.parametrize("name", PAPERS)
def test_papers(name):
    for number, rows in enumerate(PAPERS[name]):
        assert _table("results.md", name, number) == list(rows())
