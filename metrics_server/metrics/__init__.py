"""The algebra of metrics: sums, windows, intervals, and what a metric model is; users' metric models import from
here.
"""
