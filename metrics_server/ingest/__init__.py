"""From any sender's message to observations: routing of events, CloudEvents, feedback, payloads, Kafka,
Elasticsearch.
"""
