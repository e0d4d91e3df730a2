"""The adapters that come with the package; each is found by its registered name."""
