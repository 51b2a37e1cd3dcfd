"""What is loaded: two encoders, a classifier, a calibration, in one folder."""
