"""Tests of `pipeline.teachers`."""
