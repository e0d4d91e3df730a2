"""What parts of a space are worth: its axes, subnets for budgets, and supernets side by side.

Import a study from its module, such as `hwnas.workflows.study.space`: each brings only what it
needs.
"""
