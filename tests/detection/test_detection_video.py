"""Videos and folders through the command line, read back with OpenCV."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.detection.conftest import draw_squares
from tfslim import detect, errors, evaluation, tflite

cv2 = pytest.importorskip("cv2", reason="opencv-python-headless is not installed")
from tfslim.detection import annotate, session, video  # noqa: E402
from tfslim.detection.detector import Detector  # noqa: E402
from tfslim.detection.info import read_info  # noqa: E402
from tfslim.detection.nms import Detections  # noqa: E402

DATA = os.environ.get("TFSLIM_DATA")
WIDTH, HEIGHT, FRAMES = 256, 128, 12


@pytest.fixture(scope="module")
def models(square_files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name, content in square_files.items():
        (folder / f"{name}.tflite").write_bytes(content)
    return folder


def _moving(index):
    """A red square of 64 pixels that goes right by one cell of the network a frame."""
    return draw_squares(WIDTH, HEIGHT, [(64 * (index % 4), 64, 64, "red")])


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    writer = video.VideoWriter(path, 10.0)
    for index in range(FRAMES):
        writer.write(np.ascontiguousarray(_moving(index)[..., ::-1]))
    writer.close()
    return path


def _frames(path):
    capture = cv2.VideoCapture(str(path))
    found = []
    while True:
        is_read, image = capture.read()
        if not is_read:
            return capture.get(cv2.CAP_PROP_FPS), found
        found.append(image)


def _run(*arguments):
    return detect.main(["detect", *map(str, arguments)])


def test_a_video_is_annotated(models, clip, tmp_path, capsys):
    out = tmp_path / "out"
    model = models / "decoded.tflite"
    assert _run(f"--model={model}", f"--source={clip}", f"--out_dir={out}") == 0
    assert "FPS inference alone" in capsys.readouterr().out
    names = {path.name for path in out.iterdir()}
    assert names == {"annotated.mp4", "detections.json", "frames"}
    assert [path.name for path in (out / "frames").iterdir()] == ["000000.jpg"]
    result = json.loads((out / "detections.json").read_text())
    assert result["num_frames"] == FRAMES
    run = result["detectors"]["decoded.tflite"]
    assert [frame["index"] for frame in run["frames"]] == list(range(FRAMES))
    for index, frame in enumerate(run["frames"]):
        [found] = [d for d in frame["detections"] if d["score"] > 0.9]
        assert found["label"] == "red"
        # One cell of the network is 64 pixels of the image.
        left = 64 * (index % 4)
        np.testing.assert_allclose(found["box"], [left, 64, left + 64, 128], atol=2)
    assert run["fps_inference"] > run["fps_detector"] > 0
    fps, images = _frames(out / "annotated.mp4")
    assert fps == pytest.approx(10.0)
    assert len(images) == FRAMES
    assert images[0].shape == (HEIGHT, WIDTH, 3)
    # The name of the class and the title are light, where the clip is not.
    assert _light(images[0]) > 20
    assert _light(np.ascontiguousarray(_moving(0)[..., ::-1])) == 0


def _light(image):
    return int((image.min(axis=2) > 150).sum())


def test_two_models_see_the_same_frames(models, clip, tmp_path):
    out = tmp_path / "out"
    assert _run(
        models / "decoded.tflite",
        f"--compare={models / 'split_int8_uint8.tflite'}",
        f"--source={clip}",
        f"--out_dir={out}",
        "--max_frames=5",
        "--keep_every=2",
    ) == 0  # fmt: skip
    result = json.loads((out / "detections.json").read_text())
    one, other = result["detectors"].values()
    assert len(one["frames"]) == len(other["frames"]) == 5
    for a, b in zip(one["frames"], other["frames"], strict=True):
        assert a["index"] == b["index"]
        np.testing.assert_allclose(
            a["detections"][0]["box"], b["detections"][0]["box"], atol=3
        )
    _, images = _frames(out / "side_by_side.mp4")
    assert [image.shape for image in images] == [(HEIGHT, 2 * WIDTH, 3)] * 5
    assert len(_frames(out / "annotated.mp4")[1]) == 5
    kept = sorted(path.name for path in (out / "frames").iterdir())
    assert kept == ["000000.jpg", "000002.jpg", "000004.jpg"]
    assert Image.open(out / "frames" / kept[0]).size == (2 * WIDTH, HEIGHT)


def test_a_folder_of_images_and_what_is_wrong_in_it(models, tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    for index, name in enumerate(("a.png", "a.bmp", "c.PNG")):
        Image.fromarray(_moving(index)).save(photos / name)
    whole = (photos / "a.png").read_bytes()
    (photos / "half.png").write_bytes(whole[: len(whole) // 2])
    (photos / "text.jpg").write_bytes(b"no image")
    (photos / "empty.jpg").write_bytes(b"")
    (photos / "notes.txt").write_text("not looked at")
    out = tmp_path / "out"
    model = models / "raw.tflite"
    assert _run(f"--model={model}", f"--source={photos}", f"--out_dir={out}") == 0
    result = json.loads((out / "detections.json").read_text())
    skipped = [text.split(":")[0] for text in result["skipped"]]
    assert sorted(skipped) == ["empty.jpg", "half.png", "text.jpg"]
    assert "skipped: half.png" in capsys.readouterr().out
    frames = result["detectors"]["raw.tflite"]["frames"]
    assert [frame["name"] for frame in frames] == ["a.bmp", "a.png", "c.PNG"]
    assert [len(frame["detections"]) for frame in frames] == [1, 1, 1]
    pictures = sorted(path.name for path in (out / "frames").iterdir())
    assert pictures == ["a.jpg", "a.png.jpg", "c.jpg"]
    assert not (out / "annotated.mp4").exists()


def test_a_photo_taken_upright_is_read_upright(tmp_path):
    image = Image.fromarray(draw_squares(60, 40, [(0, 0, 20, "red")]))
    exif = image.getexif()
    exif[0x0112] = 6  # Turn it right by a quarter.
    image.save(tmp_path / "a.png", exif=exif)
    [frame] = video.open_source(str(tmp_path / "a.png"))
    assert frame.image.shape == (60, 40, 3)
    assert frame.image[5, 35, 2] > 200  # Red, last in OpenCV's order, at the right.


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--source={clip}"], 2, "No model is given"),
        (["--model={model}"], 2, "No source is given"),
        (["--model={model}", "--source=none.mp4"], 2, "no file or folder 'none.mp4'"),
        (["--model=none.tflite", "--source={clip}"], 1, "none.tflite"),
        (["--model=none.tflite", "--input={clip}"], 1, "none.tflite"),
        (["--model={clip}", "--source={clip}"], 1, "clip.mp4"),
        (["--model={model}", "--source={tmp}/empty"], 2, "has no images"),
        (["--model={model}", "--source=camera:x"], 2, "write camera:0"),
        (["--model={model}", "--source=camera:99"], 1, "cannot be opened as a camera"),
        (["--model={model}", "--source={tmp}/text.mp4"], 1, "cannot be opened as a vi"),
        (["--model={model}", "--source={tmp}/broken"], 1, "No frame of the source"),
        (["--model={model}", "--source={clip}", "--nms=sotf"], 2, "method 'sotf'"),
        (["--model={model}", "--source={clip}", "--score=1"], 2, "in [0, 1)"),
        (["--model={model}", "--source={clip}", "--read_ahead=0"], 2, "read_ahead"),
        (["--model={model}", "--source={clip}", "--resize=crop"], 2, "resize 'crop'"),
        (["--model={model}", "--source={clip}", "--labels=none"], 2, "labels 'none'"),
        (["--model={model}", "--source={clip}", "--cfg=none"], 2, "'none' cannot be"),
        (["--model={model}", "--source={clip}", "--compare={model}"], 2, "itself"),
        (["--model={model}", "--source={clip}", "--out={tmp}"], 2, "no result of"),
        (["--modle={model}", "--source={clip}"], 2, "Did you mean '--model'"),
    ],
)
def test_what_is_wrong_is_one_line(
    models, clip, tmp_path, capsys, monkeypatch, arguments, code, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no image")
    (tmp_path / "text.mp4").write_bytes(b"no video" * 100)
    places = {"model": models / "decoded.tflite", "clip": clip, "tmp": tmp_path}
    before = sorted(tmp_path.iterdir())
    assert _run(*(argument.format(**places) for argument in arguments)) == code
    lines = capsys.readouterr().err.splitlines()
    told = [line for line in lines if not line.startswith("[")]
    assert len(told) == 1
    assert message in told[0]
    # Nothing is left of a job that failed.
    assert sorted(tmp_path.iterdir()) == before


def test_results_are_replaced_only_if_asked(models, clip, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = [models / "decoded.tflite", f"--source={clip}", f"--out_dir={out}",
                 "--max_frames=2"]  # fmt: skip
    assert _run(*arguments) == 0
    assert _run(*arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert _run(*arguments, "--overwrite", "--keep_every=0") == 0
    assert not (out / "frames").exists()


def test_tensorflow_is_not_needed(models, clip, tmp_path):
    code = (
        "import sys\n"
        "for name in ('tensorflow', 'tf_keras', 'keras'): sys.modules[name] = None\n"
        "from tfslim import detect\n"
        f"sys.exit(detect.main(['x', {str(models / 'raw.tflite')!r},"
        f" '--source={clip}', '--out_dir={tmp_path / 'out'}']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_video_that_ends_early_is_read_as_far_as_it_goes(tmp_path):
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (WIDTH, HEIGHT)
    )
    rng = np.random.default_rng(0)
    for _ in range(FRAMES):
        writer.write(rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8))
    writer.release()
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    source = video.open_source(str(path))
    frames = list(source)
    assert 2 < len(frames) < FRAMES
    assert source.skipped == [f"{path}: {len(frames)} of {FRAMES} frames could be read"]


class _Slow:
    """A source that counts how far it has been read."""

    def __init__(self, kind="video", number=20, fails_at=None):
        self.kind, self.fps, self.skipped = kind, 25.0, []
        self.read, self._number, self._fails_at = 0, number, fails_at

    def __iter__(self):
        for index in range(self._number):
            if index == self._fails_at:
                raise errors.DataError("the wire was cut")
            self.read += 1
            image = np.zeros((16, 16, 3), np.uint8)
            yield video.Frame(index, str(index), image, 0.0)


def test_reading_ahead_is_bounded_and_in_order():
    source = _Slow()
    with video.ReadAhead(source, depth=3) as reader:
        frames = iter(reader)
        assert next(frames).index == 0
        deadline = time.monotonic() + 5
        while source.read < 5 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        # One taken, three waiting, one in the reader's hand.
        assert source.read == 5
        assert [frame.index for frame in frames] == list(range(1, 20))
    assert reader.dropped == 0


def test_the_reader_ends_when_nobody_reads_on():
    before = threading.active_count()
    with video.ReadAhead(_Slow(), depth=2) as reader:
        next(iter(reader))
    assert threading.active_count() == before


def test_what_fails_in_the_reader_is_raised_where_frames_are_taken():
    with video.ReadAhead(_Slow(fails_at=2)) as reader:
        frames = iter(reader)
        next(frames), next(frames)
        with pytest.raises(errors.DataError, match="the wire was cut"):
            next(frames)


def test_a_camera_drops_the_oldest_frames():
    with video.ReadAhead(_Slow("camera"), depth=3) as reader:
        time.sleep(0.3)  # All 20 have come.
        left = [frame.index for frame in reader]
    assert left[-1] == 19
    assert len(left) <= 3
    assert reader.dropped + len(left) == 20


@pytest.mark.parametrize("kind", ["camera", "video"])
def test_ctrl_c_ends_a_recording_and_gives_up_a_job(square_files, tmp_path, kind):
    content = square_files["raw"]
    info = read_info(tflite.read(content))
    detectors = {"squares": Detector(evaluation.Predictor(content), info)}

    def interrupt(number):
        if number == 3:
            raise KeyboardInterrupt

    before = threading.active_count()

    def run():
        options = session.SessionOptions(read_ahead=20)
        source = _Slow(kind)
        return session.run_session(
            source, detectors, folder=tmp_path, options=options, on_frame=interrupt
        )

    if kind == "video":
        with pytest.raises(KeyboardInterrupt):
            run()
    else:
        assert run()["num_frames"] == 3
        assert len(_frames(tmp_path / "annotated.mp4")[1]) == 3
    assert threading.active_count() == before


def test_boxes_are_drawn_where_they_are(square_files):
    info = read_info(tflite.read(square_files["raw"]))
    found = Detections(
        np.array([[0.25, 0.5, 0.75, 0.9], [-1, -1, 2, 2]], np.float32),
        np.array([0.9, 0.8], np.float32),
        np.array([0, 7]),
    )
    image = np.zeros((100, 200, 3), np.uint8)
    drawn = annotate.draw(image, found, info=info, title="title ü")
    assert not image.any()
    for y, x in ((75, 50), (75, 150), (90, 100)):
        assert drawn[y, x].any()
    assert not drawn[75, 100].any()
    assert annotate.side_by_side([drawn, drawn]).shape == (100, 400, 3)


@pytest.mark.skipif(DATA is None, reason="TFSLIM_DATA is not set")
@pytest.mark.parametrize(
    "number", [40, pytest.param(377, marks=pytest.mark.slow)], ids=["part", "whole"]
)
def test_the_traffic_video(models, tmp_path, number):
    clip = Path(DATA or "", "video", "car-detection.mp4")
    out = tmp_path / "out"
    assert _run(
        models / "raw.tflite",
        f"--compare={models / 'raw_int8_float.tflite'}",
        f"--source={clip}",
        f"--out_dir={out}",
        "--score=0.001",
        f"--max_frames={number if number < 377 else 0}",
    ) == 0  # fmt: skip
    _, images = _frames(out / "side_by_side.mp4")
    assert len(images) == number
    assert images[0].shape == (432, 2 * 768, 3)
    fps, annotated = _frames(out / "annotated.mp4")
    assert fps == pytest.approx(12.5)
    assert len(annotated) == number
    # The same picture, but for boxes and compression.
    capture = cv2.VideoCapture(str(clip))
    originals = [capture.read()[1] for _ in range(30)]
    assert np.median(np.abs(annotated[29].astype(int) - originals[29])) < 6
