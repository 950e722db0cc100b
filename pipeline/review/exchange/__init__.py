"""What readers decided, on its way to training, QuPath and calibration; and what to read next."""
