"""Kafka: client settings, topics, the poll thread, the settle thread, the broker for demos."""
