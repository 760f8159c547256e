"""Tests of `trainer.student`."""
