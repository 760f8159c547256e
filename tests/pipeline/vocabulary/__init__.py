"""Tests of `pipeline.vocabulary`."""
