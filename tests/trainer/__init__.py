"""Tests of `trainer`, folders and files as in the code."""
