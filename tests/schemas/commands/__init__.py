"""Tests of `schemas.commands`."""
