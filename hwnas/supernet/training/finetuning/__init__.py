"""Fine-tuning a model, or one subnet, with adapters: what trains, its steps, what is kept."""
