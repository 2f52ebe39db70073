"""Many runs: from a plan or a sweep to jobs, and from jobs to finished runs."""
