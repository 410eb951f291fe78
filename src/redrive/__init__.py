"""redrive: every agent run that Airflow starts over Kafka ends, once."""
