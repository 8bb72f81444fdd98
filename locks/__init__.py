"""Exact versions with hashes of everything that is installed, for every platform at once; and the command that makes them."""
