"""Small networks as users write them, with random weights, to try coverage on."""

from benchmarks import wild_images as wild_images
from benchmarks import wild_sequences as wild_sequences
from benchmarks.wild_parts import WILD as WILD
