"""Tests of `schemas`, with a file for each module."""
