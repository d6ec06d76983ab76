"""What wins back accuracy: equalization, rounding, bias correction."""
