"""A Kafka consumer as one more sender: records to events, offsets committed when their events are durable."""
