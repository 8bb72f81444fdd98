"""The studio on more than one machine. Needs requirements-cluster.txt; nothing else imports it."""
