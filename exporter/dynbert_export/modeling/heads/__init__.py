"""The heads: what BERT's states are turned into, a class a task."""
