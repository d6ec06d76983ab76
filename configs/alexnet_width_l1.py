"""AlexNet on photos of flowers: fewer kernels, then an L1 penalty, then INT8.

Zhong compares both ways of making AlexNet smaller and leaves their combination to
the future ("Research on optimization technology based on mobile terminals
convolutional neural networks"). Here it is: half the kernels of the convolutions,
then what Prox-SG leaves of the rest, at most 120 million multiply-accumulates.

  tfslim export --config=configs/alexnet_width_l1.py --data=folder:flowers
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    config = ml_collections.ConfigDict()
    config.model = {"name": "alexnet", "input_shape": (224, 224, 3)}
    config.data = {"spec": "folder:flowers"}
    config.training = {
        "epochs": 10,
        "learning_rate": 3e-4,
    }
    # The paper leaves the dense layers whole when it takes kernels away.
    config.steps = (
        "width:0.5,ignore=('fc1','fc2')",
        "slim:max_macs=120e6,method=prox_sg",
    )
    return config
