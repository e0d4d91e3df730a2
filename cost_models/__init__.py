"""Built-in cost models, one file each; each is reached through the registry.

A plug-in is a class (or a function that returns an object) with `name`, `unit`, `direction` and
`evaluate(archs)`, called as `Plugin(context, *, option=...)`. See `docs/cost-models.md`.
"""
