"""The studio on several machines. Needs requirements-cluster.txt. No other folder imports it."""
