"""Capture and training on a GPU: `python -m benchmarks.gpu`."""
