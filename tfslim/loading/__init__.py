"""Opens Keras models: files of either Keras, builders, applications, zoo names.

Keras is imported only by what opens a model.
"""

from tfslim.loading.load import load_model
from tfslim.loading.preprocess import find_preprocessing
from tfslim.loading.source import is_known, is_zoo, split

__all__ = ["find_preprocessing", "is_known", "is_zoo", "load_model", "split"]
