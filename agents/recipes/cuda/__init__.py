"""CUDA C++ recipes, one folder a family."""
