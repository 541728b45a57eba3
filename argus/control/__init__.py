"""Pure decisions: no I/O, no threads, no wall clock. Time comes in as an argument."""
