"""Tests of `trainer.evaluation.report`."""
