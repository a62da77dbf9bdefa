"""Parametrised sources by language; data, no code."""
