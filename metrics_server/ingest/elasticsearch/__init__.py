"""Predictions that a request logger wrote to Elasticsearch, looked up for truths that wait for theirs."""
