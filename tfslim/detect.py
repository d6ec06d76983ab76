"""Finds objects in a video, a folder of images or a camera's picture with a .tflite.

  tfslim detect yolo.tflite --source=video.mp4
  tfslim detect yolo.tflite --source=photos --labels=coco.names
  tfslim detect yolo.tflite --compare=int8.tflite --source=video.mp4
  tfslim detect yolo.tflite --source=camera:0 --max_frames=500

Writes into --out: annotated.mp4, frames/ (pictures), detections.json (boxes in
pixels, times), and side_by_side.mp4 of the same frames with --compare. Files that
tfslim wrote know their classes and how they are fed; for others give --labels, and
--cfg, the network's Darknet file, if its anchors are not those of YOLOv3.

Exit codes: 0 done, 1 the job failed, 2 wrong usage.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

from absl import flags

from tfslim import cli, errors, files

_RESULT = "detections.json"


def define_flags(values: flags.FlagValues) -> None:
    """Defines the command's flags on `values`."""
    cli.add_flags(
        values,
        ("model", str, "The .tflite, float or INT8."),
        ("compare", str, "A second .tflite, to see the same frames."),
        ("source", str, "A video, an image, a folder of images, or camera:0."),
        ("out", "detections", "Folder of the results."),
        ("labels", str, "A text file with the name of a class in each line."),
        ("cfg", str, "A Darknet .cfg that has the anchors."),
        ("resize", str, "letterbox or stretch: how images become the input."),
        ("nms", "hard", "hard, linear or gaussian (Soft-NMS)."),
        ("score", 0.25, "Least score of a box."),
        ("iou", 0.45, "Boxes of a class that overlap a better one by more are one."),
        ("max_frames", 0, "Stop after so many; 0: at the end."),
        ("keep_every", 50, "Keep every so many-th frame as a picture; 0: none."),
        ("read_ahead", 4, "Frames that are read in advance."),
        ("num_threads", 1, "Threads of the inference."),
        ("overwrite", False, "Replace earlier results."),
    )


def _run(values: flags.FlagValues, config: None) -> None:
    # Late: --help must not wait for the runtime.
    from tfslim.detection import NmsOptions, session, video
    from tfslim.report import progress

    for flag in ("model", "source"):
        if not values[flag].value:
            raise errors.ConfigError(
                f"No {flag} is given. Write: tfslim detect "
                "model.tflite --source=video.mp4."
            )
    options = session.SessionOptions(
        max_frames=values.max_frames,
        keep_every=values.keep_every,
        read_ahead=values.read_ahead,
    )
    suppression = NmsOptions(
        score_threshold=values.score, iou_threshold=values.iou, method=values.nms
    )
    out_dir = _claim(Path(values.out), overwrite=values.overwrite)
    detectors = _detectors(values, suppression)
    source = video.open_source(values.source)
    with progress.steps() as on_step, files.whole_folder(out_dir) as folder:
        on_step(f"looking at {values.source}")

        def on_frame(number: int) -> None:
            if number % 100 == 0:
                on_step(f"{number} frames")

        found = session.run_session(
            source, detectors, folder=folder, options=options, on_frame=on_frame
        )
        result = {
            "source": values.source,
            "models": {
                name: path
                for name, path in zip(
                    detectors, (values.model, values.compare), strict=False
                )
            },
            **found,
        }
        files.write_json(folder / _RESULT, result)
    cli.say(_summary(found, out_dir))


def _claim(out_dir: Path, *, overwrite: bool) -> Path:
    """Refuses a folder that holds anything but our own results, or those."""
    from tfslim.detection import session

    if not out_dir.exists():
        return out_dir
    if not out_dir.is_dir():
        raise errors.ConfigError(f"out_dir '{out_dir}' is a file, not a folder.")
    ours = {_RESULT, session.VIDEO, session.COMPARISON, session.PICTURES}
    names = {path.name for path in out_dir.iterdir()}
    if names - ours:
        raise errors.ConfigError(
            f"{out_dir} holds '{min(names - ours)}', which is no result of "
            "tfslim.detect. Choose another --out."
        )
    if names and not overwrite:
        raise errors.ConfigError(
            f"{out_dir} already holds {min(names)}. Pass --overwrite to replace it, or "
            "choose another --out."
        )
    return out_dir


def _detectors(values: flags.FlagValues, suppression: Any) -> dict[str, Any]:
    """Returns the detectors by the names of their files."""
    if (
        values.compare
        and Path(values.compare).resolve() == Path(values.model).resolve()
    ):
        raise errors.ConfigError(f"--compare is the model itself, '{values.compare}'.")
    heads = _heads(values.cfg)
    labels = _labels(values.labels)
    found: dict[str, Any] = {}
    for path in filter(None, (values.model, values.compare)):
        name = Path(path).name
        if name in found:  # Two files of one name, in two folders.
            name = path
        found[name] = _detector(
            path, heads, labels=labels, values=values, suppression=suppression
        )
    return found


def _detector(
    path: str, heads: Any, *, labels: Any, values: flags.FlagValues, suppression: Any
) -> Any:
    from tfslim import evaluation, tflite
    from tfslim.detection.detector import Detector
    from tfslim.detection.info import read_info

    content = tflite.open_file(path)
    try:
        info = read_info(
            tflite.read(content), heads=heads, labels=labels, resize=values.resize
        )
        predict = evaluation.Predictor(content, num_threads=values.num_threads)
    except (errors.ConfigError, errors.ConversionError) as error:
        raise type(error)(f"{path}: {error}") from error
    return Detector(predict, info, options=suppression)


def _heads(path: str | None) -> Any:
    from tfslim.detection.darknet import read_heads

    return read_heads(path) if path else None


def _labels(path: str | None) -> list[str] | None:
    if path is None:
        return None
    try:
        lines = files.read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise errors.ConfigError(
            f"The labels '{path}' cannot be read: {error}."
        ) from error
    return [line.strip() for line in lines if line.strip()]


def _summary(found: dict[str, Any], out_dir: Path) -> str:
    lines = []
    for name, run in found["detectors"].items():
        stages = ", ".join(
            f"{stage} {run[f'{stage}_ms']:.2f}"
            for stage in ("prepare", "inference", "decode", "nms")
        )
        number = sum(len(frame["detections"]) for frame in run["frames"])
        lines.append(
            f"{name}: {number} boxes in {found['num_frames']} frames, "
            f"{run['fps_inference']:.1f} FPS inference alone, "
            f"{run['fps_detector']:.1f} FPS with all stages (ms: {stages})"
        )
    lines.append(
        f"all together {found['fps_overall']:.1f} FPS (ms a frame: read "
        f"{found['read_ms']:.2f}, ahead; draw and write "
        f"{found['draw_and_write_ms']:.2f})"
    )
    if found["dropped"]:
        lines.append(f"{found['dropped']} frames came too fast and were dropped")
    lines += [f"skipped: {text}" for text in found["skipped"]]
    return "\n".join([*lines, f"{out_dir} is written.", ""])


# Takes `sys.argv` and returns the exit code.
main = functools.partial(
    cli.run,
    "tfslim.detect",
    __doc__ or "",
    define_flags,
    _run,
    plain="model",
    # The second is what `run` and `verify` call it.
    old={"out_dir": "out", "input": "source"},
)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
