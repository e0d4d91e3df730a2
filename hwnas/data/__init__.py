"""Annotated images: reading, prompts, SAM's transforms, views for training, scores."""
