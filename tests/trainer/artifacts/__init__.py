"""Tests of `trainer.artifacts`."""
