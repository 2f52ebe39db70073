"""Where the runs of a sweep are executed: processes of this machine, or a Ray cluster."""
