"""Statistics that hold at every look: intervals, verdicts and alarms with a promised rate of errors.

All of them assume that the arrival of a label does not depend on whether the prediction was right.
"""
