"""Random weights that tell a wrong layer from a right one."""

import numpy as np


def randomize(model, seed=0):
    """Gives every weight a random value, statistics of batch normalization too.

    Kernels have the variance of He et al., so that no layer's output vanishes.
    """
    rng = np.random.default_rng(seed)

    def draw(name, shape):
        noise = rng.standard_normal(shape, dtype=np.float32)
        if name.endswith(("gamma:0", "variance:0")):
            return 0.5 + rng.random(shape, dtype=np.float32)
        if name.endswith("depthwise_kernel:0"):
            return noise * np.float32(np.sqrt(2 / np.prod(shape[:2])))
        if name.endswith("kernel:0"):
            return noise * np.float32(np.sqrt(2 / np.prod(shape[:-1])))
        return noise * np.float32(0.2)

    weights = [weight for layer in model.layers for weight in layer.weights]
    model.set_weights([draw(w.name, tuple(w.shape)) for w in weights])
