"""The recipe of the base models `sam-vit-s` and `sam-vit-t`."""
