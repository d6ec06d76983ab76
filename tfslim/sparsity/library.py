"""TF-MOT as a module, imported without its mark on the process.

TF-MOT sets TF_USE_LEGACY_KERAS=1 while it is imported, so that a `tf.keras` that is
first looked at afterwards is another Keras than the user's, here and in every child.
"""

import os

import tensorflow as tf
import tensorflow.compat.v1 as tf_v1
import tensorflow.compat.v2 as tf_v2

_VARIABLE = "TF_USE_LEGACY_KERAS"
_users = os.environ.get(_VARIABLE)
for _api in (tf, tf_v1, tf_v2):
    _ = _api.keras.Model  # Each chooses its Keras at the first look.
try:
    import tensorflow_model_optimization as tfmot
finally:
    if _users is None:
        os.environ.pop(_VARIABLE, None)
    else:
        os.environ[_VARIABLE] = _users

__all__ = ["tfmot"]
