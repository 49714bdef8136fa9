"""Run the whole portal on one machine: what `make run` and the tests start, watch and stop."""
