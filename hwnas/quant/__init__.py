"""Fake quantizers, their scales from data, and the codes of each bit-width."""
