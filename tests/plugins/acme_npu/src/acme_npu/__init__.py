"""A cost model for the Acme NPU."""
