"""The command line: one file for each verb, and main.py. The only place that prints."""
