"""The public test kit: a real local broker, and a clock to turn."""
