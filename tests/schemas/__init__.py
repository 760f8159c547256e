"""Tests of `schemas`, a file for each module."""
