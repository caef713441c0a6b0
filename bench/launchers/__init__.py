"""Execution of runs: a queue of jobs, worker processes on this machine, tasks of a Ray cluster."""
