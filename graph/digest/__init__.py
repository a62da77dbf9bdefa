"""Digests of profiler reports: built from facts, rendered for people, programs and models."""
