"""MobileNetV2 under a budget: many structures, roughly trained, then the best one.

Zhang describes how MobileNetV3 was found: a search presets structures, trains them
roughly and selects the one of best accuracy ("Research and Development of Lightweight
Neural Network Mobilenet", section IV). Here the structures are widths of every group of
channels, and the limit is the latency measured on this machine.

  tfslim optimize --config=configs/search_mobilenet.py --max_latency=0.3ms --family=3
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.model = {"name": "mobilenet_v2", "input_shape": (32, 32, 3)}
    config.data = {"spec": "digits"}
    config.training = {"epochs": 8}
    config.benchmark = {"num_runs": 30, "rounds": 5}
    return config
