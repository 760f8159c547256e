"""Tests of `trainer`, with the same folders and files as the code."""
