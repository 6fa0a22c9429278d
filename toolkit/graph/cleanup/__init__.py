"""Passes that make a graph smaller and leave what it computes to the last bit."""
