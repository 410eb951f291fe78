"""The living worker: takes events in, runs graphs, settles their outcomes."""
