"""Training a supernet: schedule, subnets of a step, losses, opening of bit-widths."""
