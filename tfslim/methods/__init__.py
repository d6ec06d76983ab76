"""What needs both Keras and cutting: pruning models, proving it, recalibration."""
