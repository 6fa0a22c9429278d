"""Ops with every kind of argument and result, for tests."""
