"""A subnet as a TVM module: the programs that are measured, with real weights."""
