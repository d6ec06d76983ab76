"""The best model under a budget: cheap predictions first, then a few are trained."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from tfslim import errors, files, loading
from tfslim.analysis import layers
from tfslim.graph import keras as graph_keras
from tfslim.pipeline import export, measured_way, steps, timing, trial_rows
from tfslim.pipeline import job as job_lib
from tfslim.pipeline.candidates import RECIPES, choose_candidates
from tfslim.pipeline.trial_rows import Wanted
from tfslim.pruning import channels as channels_lib
from tfslim.pruning import prune
from tfslim.search import sensitivity, space
from tfslim.search import study as study_lib

OnStep = Callable[[str], None]

BASELINE, TRIALS, BEST = "baseline", "trials", "best"
PLAN, RESULT = "plan.json", "optimize.json"


def prepare(
    wanted: Wanted, config: ml_collections.ConfigDict, *, out: Path, on_step: OnStep
) -> dict[str, Any]:
    """Trains the baseline and plans the trials, once: a later call reads both.

    Raises:
        BenchmarkError: the budget cannot be met; names the nearest.
    """
    with _alone(out):
        if (out / PLAN).exists():
            on_step("the plan is there: going on")
            plan: dict[str, Any] = json.loads(files.read_text(out / PLAN))
            return plan
        baseline = _baseline(wanted, config, out=out, on_step=on_step)
        plan = _plan(wanted, config, out=out, baseline=baseline, on_step=on_step)
        _study(wanted, out).add(plan["candidates"])
        files.write_json(out / PLAN, plan)
    return plan


def work(
    wanted: Wanted, plan: Mapping[str, Any], *, out: Path, on_step: OnStep
) -> None:
    """Trains and measures what waits, until nothing is left; several may do so."""

    def evaluate(candidate: dict[str, Any]) -> tuple[float, float, dict[str, Any]]:
        own = config_of(plan, candidate, out=out, epochs=wanted.brief_epochs)
        own["verify"]["original"] = False  # It is the baseline, measured once.
        folder = out / TRIALS / candidate["name"]
        found = export.export_model(None, out_dir=folder, config=own, overwrite=True)
        row = trial_rows.row_of(found, candidate["recipe"])
        return row["quality"], row["latency_us"], row

    _study(wanted, out).run(evaluate, on_step=on_step)


def finish(
    wanted: Wanted, plan: Mapping[str, Any], *, out: Path, on_step: OnStep
) -> dict[str, Any]:
    """Trains the winners fully and writes what came of the search.

    Returns:
        The content of `optimize.json`.
    """
    study = _study(wanted, out)
    rows = study.results()
    for row in rows:
        row["meets"] = trial_rows.meets(row, plan, wanted=wanted)
    if not rows:
        reasons = "; ".join(study.failures().values()) or "no trial was made"
        raise errors.TrainingError(f"No trial came to its end: {reasons}")
    winners = trial_rows.winners_of(rows, wanted)
    final = []
    for place, row in enumerate(winners):
        name = BEST if not wanted.family else f"family_{place + 1}"
        candidate = row["candidate"]
        on_step(f"training {candidate['name']} fully")
        own = config_of(plan, candidate, out=out, epochs=wanted.epochs)
        found = export.export_model(
            None, out_dir=out / name, config=own, overwrite=True
        )
        made = trial_rows.row_of(found, candidate["recipe"])
        made["meets"] = trial_rows.meets(made, plan, wanted=wanted)
        trial = out / TRIALS / candidate["name"]
        if trial_rows.rank(row) > trial_rows.rank(made) and trial.is_dir():
            on_step(f"{candidate['name']} is worse for it: the trial is taken")
            made = row
            with files.whole_folder(out / name) as building:
                shutil.copytree(trial, building, dirs_exist_ok=True)
        final.append({**made, "candidate": candidate, "folder": name})
    content = {
        "schema_version": 1,
        "source": wanted.source,
        "goal": dataclasses.asdict(wanted.goal),
        "max_drop": wanted.max_drop,
        "baseline": plan["baseline"],
        "trials": rows,
        "failed": study.failures(),
        "final": final,
        "prediction": trial_rows.prediction_of(rows),
        "skipped": plan["skipped"],
    }
    files.write_json(out / RESULT, content)
    return content


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Lets one process at a time plan in a folder."""
    out.mkdir(parents=True, exist_ok=True)
    with files.locked(out / ".planning"):
        yield


def _study(wanted: Wanted, out: Path) -> study_lib.Study:
    return study_lib.Study(
        wanted.study or study_lib.sqlite_url((out / "study.db").absolute())
    )


def _baseline(
    wanted: Wanted, config: ml_collections.ConfigDict, *, out: Path, on_step: OnStep
) -> dict[str, Any]:
    folder = out / BASELINE
    if (folder / "result.json").exists():
        found: dict[str, Any] = json.loads(files.read_text(folder / "result.json"))
        return found
    on_step("the baseline: training, files, times")
    own = copy.deepcopy(config)
    own.quantization.recipes = RECIPES
    return export.export_model(
        wanted.source, out_dir=folder, config=own, overwrite=True
    )


def _plan(
    wanted: Wanted,
    config: ml_collections.ConfigDict,
    *,
    out: Path,
    baseline: Mapping[str, Any],
    on_step: OnStep,
) -> dict[str, Any]:
    base = {recipe: trial_rows.row_of(baseline, recipe) for recipe in RECIPES}
    model_path = str((out / BASELINE / "model.keras").absolute())
    model = loading.load_model(model_path)
    timed = {r: _timed(out, r, figures=row, on_step=on_step) for r, row in base.items()}
    channels = channels_lib.analyze(graph_keras.read(model))
    kind = graph_keras.keras_of(model)
    scores = prune.score_by(
        channels, kind, criterion="l1_norm", batches=None, loss=None
    )
    on_step("what each cut leaves")
    built = space.build_space(channels, scores, timed=timed)
    plain = _opened_config(config, model_path, spec=baseline["data"]["spec"])
    job = job_lib.prepare(None, plain, None, (None, None, None))
    inputs = _inputs(job)
    damage = sensitivity.measure_damage(
        channels,
        scores,
        space=built,
        inputs=inputs,
        kind=kind,
        divisor=space.DIVISOR,
        on_step=on_step,
    )
    cutter = measured_way.Cutter(
        channels, scores, kind, inputs, timing.plan(plain).options
    )
    correct = functools.partial(measured_way.correction, cutter=cutter, on_step=on_step)
    chosen, skipped = choose_candidates(
        wanted, built, damage=damage, base=base, timed=correct
    )
    return {
        "schema_version": 1,
        "config": json.loads(plain.to_json_best_effort()),
        "baseline": base,
        "candidates": chosen,
        "learns": _can_learn(job, plain),
        "sensitivity": _by_group(built, damage),
        "skipped": {**built.skipped, **skipped},
    }


def _by_group(built: space.Space, damage: np.ndarray) -> dict[str, dict[str, float]]:
    return {
        name: dict(zip(map(str, built.ratios), row.tolist(), strict=True))
        for name, row in zip(built.groups, damage, strict=True)
    }


def _opened_config(
    config: ml_collections.ConfigDict, model: str, *, spec: str
) -> ml_collections.ConfigDict:
    """Returns the config for the trained baseline in place of the model's name."""
    own = copy.deepcopy(config)
    own.model.name, own.model.input_shape = model, ()
    own.model.options = {}
    own.data.spec = spec
    own.training.epochs = 0
    # The baseline has been through its steps.
    own.steps, own.prune.method, own.factorize.method = (), None, None
    own.prune.ratio = own.prune.max_macs = own.prune.max_params = None
    return own


def _can_learn(job: job_lib.Job, config: ml_collections.ConfigDict) -> bool:
    """Whether trials learn from the baseline while they are fine-tuned."""
    has_one = len(job.model.outputs) == 1 and not job.task.has_boxes
    return has_one and config.distill.teacher_weight > 0


def _timed(
    out: Path, recipe: str, *, figures: Mapping[str, Any], on_step: OnStep
) -> space.Timed:
    data = files.read_bytes(out / BASELINE / f"{recipe}.tflite")
    found = layers.profile(data, on_step=on_step)
    by_layer: dict[str, float] = {}
    rest = 0.0
    for row in found.rows:
        if row.layer:
            by_layer[row.layer] = by_layer.get(row.layer, 0.0) + (row.us or 0.0)
        else:
            rest += row.us or 0.0
    total = sum(by_layer.values()) + rest
    # What the sum of the ops misses of the whole is shared out among them.
    scale = (found.whole_us or total) / total if total else 1.0
    return space.Timed(
        {name: us * scale for name, us in by_layer.items()},
        rest * scale,
        len(data),
        figures["memory_bytes"] or 0,
    )


def _inputs(job: job_lib.Job) -> list[np.ndarray]:
    batches = steps.base.batches(job)
    if not batches:
        raise errors.ConfigError(
            "The sensitivities need training data: name some with --data."
        )
    first = batches[0][0]
    if isinstance(first, np.ndarray):
        return [np.concatenate([x for x, *_ in batches])]
    names = list(first) if isinstance(first, Mapping) else range(len(first))
    return [np.concatenate([x[name] for x, *_ in batches]) for name in names]


def config_of(
    plan: Mapping[str, Any], candidate: Mapping[str, Any], *, out: Path, epochs: int
) -> dict[str, Any]:
    """Returns the config that makes a candidate: `tfslim export --config=` takes it."""
    own: dict[str, Any] = copy.deepcopy(dict(plan["config"]))
    if candidate["ratios"]:
        own["prune"] |= {
            "method": "channels",
            "ratios": dict(candidate["ratios"]),
            "divisor": space.DIVISOR,
            "reconstruct": True,
            "epochs": epochs,
        }
    if candidate["ratios"] and epochs and plan.get("learns"):
        own["steps"] = ["prune", "distill"]
        own["prune"]["epochs"], own["distill"]["epochs"] = 0, epochs
    names = dict.fromkeys(["float32", candidate["recipe"]])
    own["quantization"]["recipes"] = list(names)
    return own


def planned(out: Path) -> dict[str, Any]:
    """Reads the plan of a search.

    Raises:
        ConfigError: there is none.
    """
    try:
        plan: dict[str, Any] = json.loads(files.read_text(out / PLAN))
    except (OSError, ValueError) as error:
        raise errors.ConfigError(
            f"No search is planned in '{out}'. Start tfslim optimize without --worker."
        ) from error
    return plan
