"""Background work: the job loop and the duties that run beside it."""
