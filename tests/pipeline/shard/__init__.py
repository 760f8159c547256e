"""Tests of `pipeline.shard`."""
