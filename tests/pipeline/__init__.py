"""Tests of `pipeline`, folders and files as in the code."""
