"""Fuzzing of all that reads what others wrote: `make fuzz`, see `__main__`."""
