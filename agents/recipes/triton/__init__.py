"""Triton recipes, one folder a family."""
