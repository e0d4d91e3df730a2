"""Device profiles as data, one YAML file a device; `README.md` explains every field."""
