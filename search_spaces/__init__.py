"""Built-in search spaces, one file a family; each is reached through the registry."""
