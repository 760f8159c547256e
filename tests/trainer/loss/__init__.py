"""Tests of `trainer.loss`."""
