"""Tests of `trainer.loop`."""
