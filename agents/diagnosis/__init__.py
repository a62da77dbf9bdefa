"""What a profile means: one vocabulary and one place of rules for processors and GPUs. Pure."""
