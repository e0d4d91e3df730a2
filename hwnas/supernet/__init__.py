"""The SAM networks: stock modules, batch-safe forward passes, weights, training."""
