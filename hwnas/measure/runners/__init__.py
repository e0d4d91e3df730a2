"""Runners: who times a kernel or a network, each in a child process of its own."""
