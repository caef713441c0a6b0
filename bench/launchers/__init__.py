"""How runs are executed: a queue of jobs, worker processes on this machine, tasks of a Ray cluster."""
