"""A file for a training environment, which records there what the model does."""
