"""Tests of `trainer.evaluation.tasks`."""
