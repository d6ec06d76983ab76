"""Images of nothing: overlapping discs, with the statistics of photographs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tfslim import checks

# So many discs cover an image almost surely.
_DISCS = 60


def dead_leaves(
    count: int, height: int, *, width: int, channels: int = 3, seed: int = 0
) -> npt.NDArray[np.uint8]:
    """Makes images for what needs inputs of a natural kind, but has no data.

    Discs of random place and color hide each other, with radii so distributed that
    edges come at every scale, in front of a random shading. Ranges, batch statistics
    and least squares come near to those of photographs where noise does not.
    Source: Baradad et al., "Learning to See by Looking at Noise", NeurIPS 2021,
    https://arxiv.org/abs/2106.05963, section 3.

    Args:
        count: of images.
        height: in pixels.
        width: in pixels.
        channels: 1 or 3.
        seed: of all that is random.

    Returns:
        uint8 [count, height, width, channels].

    Raises:
        ConfigError: a size below one.
    """
    sizes = {"count": count, "height": height, "width": width, "channels": channels}
    for name, value in sizes.items():
        checks.whole(name, value)
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    size = max(height, width)
    images = np.empty((count, height, width, channels), np.uint8)
    for image in images:
        # Colors of one image lie about one of their own, as light does.
        light = random.uniform(30, 225, channels)
        spread = random.uniform(10, 70)
        canvas = light + random.normal(0, spread, channels) + np.zeros(image.shape)
        # The density of radii falls with their cube.
        radii = 1.0 / np.sqrt(random.uniform(1 / 0.5**2, 1 / 0.03**2, _DISCS))
        for radius in np.concatenate([[1.0], radii]) * size:
            y, x = random.uniform(0, height), random.uniform(0, width)
            inside = (rows - y) ** 2 + (columns - x) ** 2 < radius**2
            color = light + random.normal(0, spread, channels)
            slope = random.normal(0, spread / 2, 2) / size
            shade = slope[0] * (rows - y) + slope[1] * (columns - x)
            canvas[inside] = color + shade[inside, None]
        canvas += random.normal(0, random.uniform(0, 6), image.shape)
        image[:] = canvas.clip(0, 255)
    return images
