"""The layer graph: reading and writing Keras models, counting, passes over values."""
