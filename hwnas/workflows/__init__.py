"""One file or folder a verb: what the command line does, as Python calls.

Import the verb from its module, such as `hwnas.workflows.search`: each brings only what it needs.
"""
