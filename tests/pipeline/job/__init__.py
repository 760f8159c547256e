"""Tests of `pipeline.job`."""
