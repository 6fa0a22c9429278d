"""Custom nodes as other deployments spell them, and ours."""
