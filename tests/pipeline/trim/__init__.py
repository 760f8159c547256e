"""Tests of `pipeline.trim`."""
