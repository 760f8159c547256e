"""Tests of `pipeline`, with the same folders and files as the code."""
