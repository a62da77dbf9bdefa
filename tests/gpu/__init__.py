"""Tests and programs that need a CUDA device."""
