"""Network slimming: L1 on the scales of BatchNormalization, then the channels go."""
