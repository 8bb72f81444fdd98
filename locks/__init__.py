"""Exact versions with hashes of all installed packages, for all platforms, and the command that makes them."""
