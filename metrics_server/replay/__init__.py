"""`metrics-server replay`: the numbers that a server would show, computed from a file of predictions and truths."""
