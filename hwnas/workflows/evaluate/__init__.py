"""Quality on annotated images: of subnets of a supernet, of whole models, of baselines.

Import a verb from its module, such as `hwnas.workflows.evaluate.subnets`: each brings only what
it needs.
"""
