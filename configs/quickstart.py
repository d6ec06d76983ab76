"""ResNet-18 on scikit-learn's 1,797 handwritten digits: float and INT8.

What `tfslim export` runs when told nothing else. Digits are what models of
the zoo get where no data is named.

  tfslim export --out=out/quickstart
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.model = {"name": "resnet18", "input_shape": (32, 32, 3)}
    return config
