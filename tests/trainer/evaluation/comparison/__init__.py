"""Tests of `trainer.evaluation.comparison`."""
