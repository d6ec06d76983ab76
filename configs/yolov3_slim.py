"""YOLOv3 on a folder of images with boxes: 60% of the channels removed, then INT8.

After Li, "The Optimization Strategy of Deep Learning Algorithm Based on Image
Recognition and Object Detection", sections 3.2 and 3.3: train, train on under an L1
penalty on the scales of batch normalization, remove the channels with the smallest
ones all over the network, fine-tune; here in two passes.

  tfslim export --config=configs/yolov3_slim.py --data=yolo:PATH

PATH has images/{train,val} and labels/{train,val}; see docs/data.md. A small network
on made-up scenes, in minutes, without any file:

  tfslim export --config=configs/yolov3_slim.py --data=scenes:examples=5000
    --model=yolov3_tiny:alpha=0.5 --config.model.input_shape=192,192,3
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.model = {"name": "yolov3", "input_shape": (416, 416, 3)}
    config.data = {"spec": "yolo:coco"}
    config.training = {
        "epochs": 60,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "augment": ("flip", "zoom", "colour"),
    }
    config.steps = ("slim:0.6,passes=2",)
    config.slim = {
        # The loss is a sum over an image's boxes, about a hundred times a
        # classifier's: so is the penalty that moves it.
        "strength": 0.01,
        "sparse_epochs": 20,
        "epochs": 20,
        "learning_rate": 5e-4,
    }
    config.quantization = {"recipes": ("float32", "float16", "int8")}
    return config
