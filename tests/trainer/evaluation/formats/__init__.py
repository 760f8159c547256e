"""Tests of `trainer.evaluation.formats`."""
