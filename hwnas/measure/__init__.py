"""Measure: kernels compiled for a device, run on it, timed, and kept."""
