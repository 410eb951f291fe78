"""LangGraph: which graph runs for an event, how it runs and resumes, where it keeps its state."""
