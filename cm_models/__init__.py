"""Ready metric models, one family a file: two pure functions each, over sums that add, merge and subtract.

They depend on numpy and on nothing that serves, stores or pairs, so they can be used in a notebook as they are.
"""
