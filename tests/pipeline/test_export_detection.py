"""A detector through the main job, and its files in front of pictures."""

import json

import keras
import numpy as np
from PIL import Image

from tfslim import export, tflite
from tfslim.data import load
from tfslim.detect import main as detect


def test_a_detector_from_scenes_to_boxes(tmp_path):
    spec = "scenes:examples=40"
    code = export.main(
        [
            "export",
            "--model=yolov3_tiny:alpha=0.125",
            f"--data={spec}",
            "--config.model.input_shape=96,96,3",
            "--epochs=1",
            "--steps=prune:0.5,divisor=4,epochs=0",
            "--recipe=float32,int8",
            "--benchmark=",
            f"--out={tmp_path / 'out'}",
        ]
    )
    assert code == 0
    result = json.loads((tmp_path / "out/result.json").read_text())
    assert result["task"]["metric"] == "mAP@0.5"
    # The maps of the Keras model and the boxes in the file are measured alike.
    whole, _ = result["variants"]
    assert whole["metric"] == result["keras_metric"]
    assert whole["parity"]["agreement"] == 1.0
    model = keras.saving.load_model(tmp_path / "out/model.keras")
    assert [tensor.shape[1:3] for tensor in model.outputs] == [(3, 3), (6, 6)]
    file = tflite.read((tmp_path / "out/int8.tflite").read_bytes())
    cells = 3 * (3 * 3 + 6 * 6)
    assert [tensor.shape for tensor in file.outputs] == [(1, cells, 4), (1, cells, 4)]

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    dataset = load(spec)
    Image.fromarray(np.asarray(dataset.test.inputs([0])[0])).save(pictures / "a.png")
    arguments = [f"--source={pictures}", f"--out={tmp_path / 'found'}"]
    assert detect(["detect", f"--model={tmp_path}/out/int8.tflite", *arguments]) == 0
    found = json.loads((tmp_path / "found/detections.json").read_text())
    assert "a.png" in json.dumps(found)


def test_training_for_int8_is_refused_before_any_work(tmp_path, capsys):
    code = export.main(
        [
            "export",
            "--model=yolov3_tiny:alpha=0.125",
            "--data=scenes:examples=20",
            "--config.model.input_shape=96,96,3",
            "--steps=quantize",
            f"--out={tmp_path / 'out'}",
        ]
    )
    assert code == 2
    assert "does not know of boxes" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
