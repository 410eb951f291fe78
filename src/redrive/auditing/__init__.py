"""The judge: whether the topics and the group's commits show that every promise was kept.

`redrive doctor audit` runs it on the topics of a deployment, `redrive.testing` on those of a test.
It reads, and never asks a worker. What it cannot see, it says.
"""
